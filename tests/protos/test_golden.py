"""The wire format: what was once sent must always be read, and the generated code must be fresh."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import Message

from protos import codec
from protos import learner_pb2 as pb
from tests.protos.golden_messages import GOLDEN, build
from tests.wire_data import make_spec, make_trial

ROOT = Path(__file__).parents[2]
MESSAGES = build()


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_golden_file_is_read_as_it_was_meant(name: str) -> None:
    message = MESSAGES[name]
    read = type(message).FromString((GOLDEN / f"{name}.binpb").read_bytes())
    assert read == message


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_message_is_written_as_the_golden_file(name: str) -> None:
    written = MESSAGES[name].SerializeToString(deterministic=True)
    assert written == (GOLDEN / f"{name}.binpb").read_bytes()


def test_no_golden_file_is_without_a_message() -> None:
    assert {p.stem for p in GOLDEN.glob("*.binpb")} == set(MESSAGES)


def _set_fields(message: Message) -> set[str]:
    names: set[str] = set()
    for field, value in message.ListFields():
        names.add(field.full_name)
        if field.message_type is not None:
            for item in value if field.is_repeated else [value]:
                names |= _set_fields(item)
    return names


def test_every_field_of_every_message_is_in_a_golden_file() -> None:
    defined = {
        field.full_name
        for message in pb.DESCRIPTOR.message_types_by_name.values()
        for field in _fields(message)
    }
    covered = set().union(*(_set_fields(m) for m in MESSAGES.values()))
    assert defined - covered == set()


def _fields(message: Descriptor) -> list:
    return list(message.fields)


def test_golden_trial_is_decoded() -> None:
    commit = pb.CommitTrialRequest.FromString((GOLDEN / "commit_trial_request.binpb").read_bytes())
    chunk = pb.PutChunkRequest.FromString((GOLDEN / "put_chunk_request.binpb").read_bytes())
    trial = codec.decode_trial(commit.manifest, chunk.data)
    assert trial.digest() == commit.trial_digest
    assert (
        trial.digest() == make_trial(make_spec(image_size=2, max_steps=2), 4, num_steps=2).digest()
    )


def _compile(*arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", "-I", ".", *arguments, "protos/learner.proto"],
        cwd=ROOT,
        check=True,
        timeout=60,
    )


def test_generated_code_describes_the_proto(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools", reason="the protobuf compiler is a development dependency")
    _compile(f"--descriptor_set_out={tmp_path / 'set'}")
    (compiled,) = FileDescriptorSet.FromString((tmp_path / "set").read_bytes()).file
    committed = FileDescriptorProto()
    pb.DESCRIPTOR.CopyToProto(committed)
    for message in compiled.message_type:
        for field in message.field:
            field.ClearField("json_name")  # protoc fills it in, the runtime does not
    assert committed == compiled


def test_generated_code_is_what_the_compiler_writes(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools", reason="the protobuf compiler is a development dependency")
    made_by = f"GRPC_GENERATED_VERSION = '{importlib.metadata.version('grpcio-tools')}'"
    if made_by not in (ROOT / "protos" / "learner_pb2_grpc.py").read_text():
        pytest.skip("another version of the compiler is installed than wrote the code")
    _compile(*(f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")))
    for name in ("learner_pb2.py", "learner_pb2.pyi", "learner_pb2_grpc.py"):
        assert (tmp_path / "protos" / name).read_text() == (ROOT / "protos" / name).read_text(), (
            f"{name} is stale: run protoc again"
        )
