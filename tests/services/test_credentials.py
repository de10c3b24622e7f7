"""Strangers are kept out, and callers know whom they call: on real sockets, and file by file."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos import learner_pb2 as pb
from protos import learner_pb2_grpc
from services import cli, config
from services.actor_config import ActorConfig
from services.client import AccessDenied, LearnerClient, LearnerUnavailable
from services.config import ConfigError
from services.config_text import to_toml
from services.credentials import (
    ClientSecurity,
    ServerSecurity,
    security_flags,
    shows_token,
)
from services.ingress import SERVICE
from services.learner_config import LearnerConfig
from services.process import CannotStart
from services.trial_feed import Gap, committed_trials, follow_learner
from tests.services.certificates import Certificate, make_certificate, needs_openssl
from tests.services.recorder_bench import RunningRecorder
from tests.services.rig import SPEC, IngressProcess, deliver, identity, wait_until
from tests.services.tiny_demo import write_configs
from tests.wire_data import make_trial

TOKEN = "0123456789abcdef-the-right-one"
WRONG = ["", TOKEN[:-1], TOKEN + "x", TOKEN.upper()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("credentials")
    (made / "token").write_text(f"{TOKEN}\n")
    (made / "wrong").write_text(TOKEN + "x")
    return made


@pytest.fixture(scope="module")
def guarded(folder: Path) -> Iterator[IngressProcess]:
    arguments = ["--token-file", str(folder / "token")]
    with IngressProcess(folder / "guarded", arguments=arguments) as ingress:
        yield ingress


def with_token(folder: Path, name: str = "token") -> ClientSecurity:
    return ClientSecurity(token_file=folder / name)


# ---- the token ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [m.name for m in SERVICE.methods])
@pytest.mark.parametrize("shown", [None, *WRONG], ids=["none", "empty", "short", "long", "case"])
def test_no_method_answers_without_the_token(
    guarded: IngressProcess, method: str, shown: str | None
) -> None:
    metadata = [] if shown is None else [("authorization", f"Bearer {shown}")]
    request = getattr(pb, f"{method}Request")()
    with (
        grpc.insecure_channel(guarded.address) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        _answer(channel, method, request, metadata)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert "token_file" in (caught.value.details() or "")


def _answer(channel: grpc.Channel, method: str, request: Any, metadata: Any) -> object:
    call = getattr(learner_pb2_grpc.LearnerStub(channel), method)
    reply = call(request, timeout=10, metadata=metadata)
    return next(reply) if method == "TailLog" else reply


def test_the_token_lets_every_kind_of_call_in(guarded: IngressProcess, folder: Path) -> None:
    with closing(LearnerClient(guarded.address, with_token(folder))) as client:
        lease = client.hello(identity("a-1")).lease_token
        trial = make_trial(SPEC, 1)
        assert deliver(client, lease, trial).verdict == pb.COMMIT_VERDICT_STORED
        assert trial.trial_id in {r.trial.trial_id for r in client.tail_log(is_following=False)}
        assert client.status().task == SPEC.task
    lines = committed_trials(guarded.address, security=with_token(folder))
    assert trial.trial_id in {line.trial_id for line in lines}
    events = follow_learner(guarded.address, 0, is_following=False, security=with_token(folder))
    assert trial.trial_id in {event.trial_id for event in events if not isinstance(event, Gap)}


def test_health_is_for_everybody(guarded: IngressProcess) -> None:
    with grpc.insecure_channel(guarded.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        reply = stub.Check(health_pb2.HealthCheckRequest(service=SERVICE.full_name), timeout=10)
    assert reply.status == health_pb2.HealthCheckResponse.SERVING


def test_a_caller_without_the_token_is_told_what_to_do(
    guarded: IngressProcess, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for security in (None, with_token(folder, "wrong")):
        with (
            closing(LearnerClient(guarded.address, security)) as client,
            pytest.raises(AccessDenied, match="asks for a token: set token_file"),
        ):
            client.status()
    words = ["status", "--learner", guarded.address]
    assert cli.main(words) == 3
    assert "token_file" in capsys.readouterr().err
    assert cli.main([*words, "--token-file", str(folder / "token")]) == 0


def test_an_actor_without_the_token_ends_and_keeps_its_trials(
    guarded: IngressProcess, folder: Path, tmp_path: Path
) -> None:
    running = RunningRecorder(
        tmp_path / "spool", guarded.address, security=with_token(folder, "wrong")
    )
    running.record(21)
    wait_until(running.is_over)
    assert "token_file" in str(running.error)
    left, security = running.loop.restarted(), with_token(folder)
    with RunningRecorder(
        tmp_path / "spool", guarded.address, loop=left, security=security
    ) as running:
        wait_until(lambda: len(running.loop.acked) == 1, what="the kept trial is delivered")


def test_an_actor_whose_token_was_changed_goes_on_recording(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "mine").write_text(TOKEN)
    arguments = ["--token-file", str(tmp_path / "mine")]
    with IngressProcess(tmp_path / "learner", arguments=arguments) as ingress:
        spool = tmp_path / "spool"
        with RunningRecorder(spool, ingress.address, security=with_token(folder)) as running:
            wait_until(lambda: running.loop.links == [True])
            ingress.kill()
            (tmp_path / "mine").write_text("another-token-that-nobody-knows")
            arguments += ["--listen", ingress.address]
            with IngressProcess(tmp_path / "learner", arguments=arguments):
                wait_until(lambda: running.loop.links[-1] is False)
                running.record(31)
                wait_until(lambda: running.loop.num_unsent == 1 and running.loop.is_drained)
                assert not running.is_over()


def test_the_token_is_in_no_log_and_no_configuration(guarded: IngressProcess) -> None:
    kept = [p for p in guarded.store.parent.rglob("*") if p.is_file()]
    assert guarded.log in kept
    assert not [p for p in kept if TOKEN.encode() in p.read_bytes()]
    assert TOKEN.encode() not in Path(f"/proc/{guarded.pid}/cmdline").read_bytes()


@pytest.mark.parametrize("value", [f"Bearer {TOKEN}", f"Bearer {TOKEN}".encode()])
def test_only_the_one_token_shown_once_is_it(value: str | bytes) -> None:
    assert shows_token([("user-agent", "x"), ("authorization", value)], TOKEN)
    assert not shows_token([("authorization", value), ("authorization", value)], TOKEN)
    assert not shows_token([("authorization", TOKEN)], TOKEN)
    assert not shows_token([], TOKEN)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        (b"", "at least 16"),
        (b"short\n", "at least 16"),
        (b"two words that are long enough\n", "one word"),
        ("zwölf-mal-schwarzer-kater".encode(), "cannot be read"),
    ],
)
def test_a_file_without_a_token_is_refused(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    for read in (ServerSecurity(token_file=path).token, ClientSecurity(token_file=path).metadata):
        with pytest.raises(CannotStart, match=words):
            read()
    with IngressProcess(tmp_path / "x", arguments=["--token-file", str(path)]) as ingress:
        assert ingress.process.wait(10) == 3
        assert words in ingress.log_text()
        assert not ingress.store.exists()


# ---- TLS ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ours(folder: Path) -> Certificate:
    return make_certificate(folder, "ours")


@pytest.fixture(scope="module")
def secret(folder: Path, ours: Certificate) -> Iterator[IngressProcess]:
    security = ServerSecurity(token_file=folder / "token", tls_cert=ours.cert, tls_key=ours.key)
    with IngressProcess(folder / "secret", arguments=security_flags(security)) as ingress:
        yield ingress


@needs_openssl
def test_trials_go_through_tls_with_a_token(
    secret: IngressProcess, folder: Path, ours: Certificate, tmp_path: Path
) -> None:
    security = ClientSecurity(token_file=folder / "token", tls_ca=ours.cert)
    with RunningRecorder(tmp_path / "spool", secret.address, security=security) as running:
        (trial_id,) = running.record(41)
        wait_until(lambda: trial_id in running.loop.acked)
    with (
        closing(LearnerClient(secret.address, ClientSecurity(tls_ca=ours.cert))) as client,
        pytest.raises(AccessDenied),
    ):
        client.status()


@needs_openssl
@pytest.mark.parametrize(
    ("make_ca", "words"),
    [
        (None, "does so to callers without tls_ca"),
        (lambda folder: make_certificate(folder, "theirs").cert, "not the one that tls_ca trusts"),
    ],
)
def test_a_caller_that_cannot_trust_the_learner_sends_nothing(
    secret: IngressProcess, tmp_path: Path, make_ca: Callable[[Path], Path] | None, words: str
) -> None:
    security = ClientSecurity(tls_ca=None if make_ca is None else make_ca(tmp_path))
    with (
        closing(LearnerClient(secret.address, security)) as client,
        pytest.raises(LearnerUnavailable, match=words),
    ):
        client.status()


@needs_openssl
def test_a_certificate_for_another_host_is_not_believed(tmp_path: Path) -> None:
    other = make_certificate(tmp_path, "other", "DNS:gpu-box.example")
    arguments = security_flags(ServerSecurity(tls_cert=other.cert, tls_key=other.key))
    with (
        IngressProcess(tmp_path / "learner", arguments=arguments) as ingress,
        closing(LearnerClient(ingress.address, ClientSecurity(tls_ca=other.cert))) as client,
        pytest.raises(LearnerUnavailable, match="not for the host"),
    ):
        client.status()


@needs_openssl
def test_a_learner_without_tls_is_not_believed(
    guarded: IngressProcess, folder: Path, ours: Certificate
) -> None:
    security = ClientSecurity(token_file=folder / "token", tls_ca=ours.cert)
    with (
        closing(LearnerClient(guarded.address, security)) as client,
        pytest.raises(LearnerUnavailable, match="serves without TLS"),
    ):
        client.status()


@needs_openssl
def test_key_and_certificate_that_do_not_fit_are_refused(tmp_path: Path, ours: Certificate) -> None:
    other = make_certificate(tmp_path, "other")
    junk = tmp_path / "junk"
    junk.write_text("no PEM")
    for cert, key in ((ours.cert, other.key), (junk, ours.key), (tmp_path / "gone", ours.key)):
        with pytest.raises(CannotStart, match="cannot be used"):
            ServerSecurity(tls_cert=cert, tls_key=key).key_and_certificate()
    with pytest.raises(CannotStart, match="cannot be used"):
        ClientSecurity(tls_ca=junk).root_certificate()
    arguments = security_flags(ServerSecurity(tls_cert=ours.cert, tls_key=other.key))
    with IngressProcess(tmp_path / "x", arguments=arguments) as ingress:
        assert ingress.process.wait(10) == 3
        assert f"tls_key {other.key} cannot be used" in ingress.log_text()


# ---- settings -----------------------------------------------------------------------------------


def test_what_is_open_to_the_network_is_said(tmp_path: Path, folder: Path) -> None:
    listen = ["--listen", "0.0.0.0:0"]
    with IngressProcess(tmp_path / "open", arguments=listen) as ingress:
        assert "anyone there may call: set token_file" in ingress.log_text()
        assert "can read and change it: set tls_cert" in ingress.log_text()
    token = ["--token-file", str(folder / "token")]
    with IngressProcess(tmp_path / "token", arguments=[*listen, *token]) as ingress:
        assert "anyone there may call" not in ingress.log_text()
        assert "can read and change it: set tls_cert" in ingress.log_text()


@needs_openssl
def test_nothing_is_open_with_token_and_tls(
    tmp_path: Path, folder: Path, ours: Certificate
) -> None:
    security = ServerSecurity(token_file=folder / "token", tls_cert=ours.cert, tls_key=ours.key)
    arguments = ["--listen", "0.0.0.0:0", *security_flags(security)]
    with IngressProcess(tmp_path, arguments=arguments) as ingress:
        assert "event=serving" in ingress.log_text()
        assert "event=open_to_network" not in ingress.log_text()


def test_configurations_name_the_files(tmp_path: Path) -> None:
    learner_file, actor_file = write_configs(tmp_path)
    learner_file.write_text(
        'token_file = "t"\ntls_cert = "c"\ntls_key = "k"\n' + learner_file.read_text()
    )
    actor_file.write_text('token_file = "t"\ntls_ca = "c"\n' + actor_file.read_text())
    learner = config.build_file(LearnerConfig, learner_file)
    actor = config.build_file(ActorConfig, actor_file)
    assert learner.security == ServerSecurity(
        token_file=Path("t"), tls_cert=Path("c"), tls_key=Path("k")
    )
    assert actor.security == ClientSecurity(token_file=Path("t"), tls_ca=Path("c"))
    for loaded in (learner, actor):
        again = config.build(type(loaded), tomllib.loads(to_toml(loaded)), file="again")
        assert again == loaded
    assert LearnerConfig(spec=SPEC).security == ServerSecurity()


@pytest.mark.parametrize("key", ["tls_cert", "tls_key"])
def test_half_of_tls_is_refused(tmp_path: Path, key: str) -> None:
    learner_file, _ = write_configs(tmp_path)
    learner_file.write_text(f'{key} = "x"\n' + learner_file.read_text())
    with pytest.raises(ConfigError, match="tls_cert and tls_key belong together"):
        config.build_file(LearnerConfig, learner_file)
