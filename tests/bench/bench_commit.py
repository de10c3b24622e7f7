"""What the commit of one trial costs in the ingress, against the cheapest durable write there is.

Both in turns, of the same bytes, on the same disk: a `CommitTrial` call on an upload that is
complete (digests, checks, one Zarr group, fsyncs, ledger row), and one file that is written,
fsynced and renamed.
"""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path

from learner.durable import write_file
from protos import codec
from protos import learner_pb2 as pb
from protos.trial import Source
from services.client import ActorIdentity, LearnerClient
from tests.bench.bench_sampling import IMAGE_SIZE, NUM_STEPS
from tests.bench.interleaved import time_in_turns
from tests.bench.row import Row, percentile_rows, ratio_row
from tests.learner.trials import make_spec, make_trial
from tests.services.rig import IngressProcess

ROUNDS = 50  # all of them are uploaded beforehand, and no more than 64 uploads may wait
FILE, COMMIT = "file", "commit"


def measure() -> list[Row]:
    """Uploads trials, then commits them one by one beside files of the same bytes."""
    spec = make_spec(image_size=IMAGE_SIZE, action_size=4)
    encoded = {}
    for number in range(ROUNDS + 2):
        trial = make_trial(
            number, num_steps=NUM_STEPS, spec=spec, is_noisy=True, source=Source.ONLINE
        )
        encoded[trial.trial_id] = codec.encode_trial(trial)
    ids = list(encoded)
    who = ActorIdentity(actor_id="bench", incarnation="1", is_sim=True, spec=spec)
    with tempfile.TemporaryDirectory() as name, IngressProcess(Path(name), spec=spec) as ingress:
        files = Path(name) / "files"
        files.mkdir()
        with closing(LearnerClient(ingress.address)) as client:
            token = client.hello(who).lease_token
            for trial_id, upload in encoded.items():
                for chunk in codec.cut_chunks(upload.payload):
                    client.put_chunk(token, trial_id, upload, chunk)

            def commit(number: int) -> None:
                reply = client.commit_trial(token, ids[number], encoded[ids[number]])
                assert reply.verdict == pb.COMMIT_VERDICT_STORED, reply

            def write(number: int) -> None:
                write_file(files / str(number), encoded[ids[number]].payload)

            times = time_in_turns({FILE: write, COMMIT: commit}, rounds=ROUNDS)
    what = f"commit of a trial in the ingress ({len(encoded[ids[0]].payload) / 1e6:.1f} MB)"
    return [
        *percentile_rows(what, times[COMMIT], {50: "<= 30", 99: "-"}),
        *percentile_rows("one file of these bytes, fsynced and renamed", times[FILE], {50: "-"}),
        ratio_row("commit, as a multiple of that file", times[COMMIT], times[FILE]),
    ]
