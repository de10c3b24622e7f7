"""One message of every type with every field set, as files that must stay readable for ever.

`python -m tests.protos.golden_messages` writes the files that do not exist yet. A file, once
released, is never written again: whoever changes a field's number or type fails the test.
"""

from __future__ import annotations

import sys
from pathlib import Path

from google.protobuf.message import Message

from protos import codec
from protos import learner_pb2 as pb
from tests.wire_data import make_spec, make_trial, trial_id_of

GOLDEN = Path(__file__).parent / "golden"


def build() -> dict[str, Message]:
    """Returns the messages by the name of their file."""
    spec = make_spec(image_size=2, max_steps=2)
    trial = make_trial(spec, 4, num_steps=2)
    encoded = codec.encode_trial(trial)
    chunk = next(codec.cut_chunks(encoded.payload))
    weights = pb.WeightsRef(
        version=7, sha256="cd" * 32, num_bytes=123, train_step=456, created_unix_ns=789
    )
    trainer = pb.TrainerStatus(
        state="finetuning",
        num_updates=1,
        updates_owed=2,
        updates_per_second=3.5,
        num_offline_trials=4,
        num_online_trials=5,
        weights_version=6,
        ledger_seq=7,
        status_age_s=0.5,
    )
    live = pb.LiveEvent(
        unix_ns=1,
        actor_id="arm-1",
        kind=pb.LIVE_KIND_STEP,
        trial_id=trial.trial_id,
        step_index=3,
        reward=1.0,
        plan_value=0.5,
        plan_uncertainty=0.25,
        weights_version=7,
        is_deadline_missed=True,
        outcome="success",
        text="grasped",
    )
    committed = pb.CommittedTrial(
        ledger_seq=9,
        trial_id=trial.trial_id,
        trial_digest=encoded.trial_digest,
        source="online",
        outcome="success",
        num_steps=2,
        total_reward=1.0,
        actor_id="arm-1",
        weights_version=7,
        position_index=4,
        committed_unix_ns=11,
    )
    cursor = pb.LogCursor(ledger_seq=9, log_epoch="e", log_offset=10)
    received = [pb.ChunkRange(first=1, count=2)]
    return {
        "hello_request": pb.HelloRequest(
            proto_major=1,
            proto_minor=2,
            actor_id="arm-1",
            incarnation="i-1",
            kind=pb.ACTOR_KIND_SIM,
            spec_json=spec.to_json(),
            spec_digest=spec.digest(),
            control_hz=10.0,
            software="0.1.0",
            sent_unix_ns=5,
        ),
        "hello_reply": pb.HelloReply(
            verdict=pb.HELLO_VERDICT_SPEC_MISMATCH,
            message="the specs differ",
            difference=["task: reach here, pick there"],
            run_id="run",
            lease_token=1 << 63,
            lease_ttl_s=5.0,
            policy_config_json="{}",
            latest_weights=weights,
            limits=pb.Limits(
                max_chunk_bytes=1, max_trial_bytes=2, max_query_trials=3, max_log_events=4
            ),
            learner_unix_ns=6,
            software="0.1.0",
            proto_major=1,
            proto_minor=3,
        ),
        "heartbeat_request": pb.HeartbeatRequest(
            lease_token=1,
            loop_state="running",
            weights_version=7,
            spool_trials=2,
            spool_bytes=3,
            fault="none to speak of",
            rejected_trials=1,
            is_leaving=True,
        ),
        "heartbeat_reply": pb.HeartbeatReply(
            is_lease_valid=True,
            message="m",
            latest_weights=weights,
            trainer=trainer,
            trained_ledger_seq=8,
            ledger_seq=9,
        ),
        "heartbeat_reply_waiting": pb.HeartbeatReply(
            trainer=pb.TrainerStatus(state="waiting", waiting_for="online trials")
        ),
        "query_trials_request": pb.QueryTrialsRequest(trial_ids=[trial_id_of(1), trial_id_of(2)]),
        "query_trials_reply": pb.QueryTrialsReply(
            holdings=[
                pb.TrialHolding(
                    trial_id=trial_id_of(1),
                    state=pb.TRIAL_STATE_STAGED,
                    trial_digest="ef" * 32,
                    ledger_seq=3,
                    payload_sha256=encoded.payload_sha256,
                    received=received,
                    reason="r",
                )
            ]
        ),
        "put_chunk_request": pb.PutChunkRequest(
            lease_token=1,
            trial_id=trial.trial_id,
            payload_sha256=encoded.payload_sha256,
            total_bytes=len(encoded.payload),
            index=1,
            count=2,
            offset=64,
            crc32=chunk.crc32,
            data=chunk.data,
        ),
        "put_chunk_reply": pb.PutChunkReply(num_received=2),
        "commit_trial_request": pb.CommitTrialRequest(
            lease_token=1,
            trial_id=trial.trial_id,
            manifest=encoded.manifest,
            payload_sha256=encoded.payload_sha256,
            trial_digest=encoded.trial_digest,
        ),
        "commit_trial_reply": pb.CommitTrialReply(
            verdict=pb.COMMIT_VERDICT_STORED, ledger_seq=9, reason="r", received=received
        ),
        "get_weights_manifest_request": pb.GetWeightsManifestRequest(after_version=6, wait_s=20.0),
        "get_weights_manifest_reply": pb.GetWeightsManifestReply(
            weights=weights, manifest_json="{}", run_id="run"
        ),
        "get_weights_chunk_request": pb.GetWeightsChunkRequest(version=7, offset=8, length=9),
        "get_weights_chunk_reply": pb.GetWeightsChunkReply(offset=8, data=b"abc", crc32=10),
        "put_log_request": pb.PutLogRequest(lease_token=1, events=[live], num_dropped=2),
        "put_log_reply": pb.PutLogReply(num_accepted=1),
        "tail_log_request": pb.TailLogRequest(
            after=cursor, is_following=True, with_live_events=True
        ),
        "tail_log_reply_trial": pb.TailLogReply(cursor=cursor, trial=committed),
        "tail_log_reply_live": pb.TailLogReply(cursor=cursor, live=live),
        "tail_log_reply_dropped": pb.TailLogReply(cursor=cursor, dropped=pb.Dropped(num_events=3)),
        "list_trials_request": pb.ListTrialsRequest(after_ledger_seq=8, limit=10),
        "list_trials_reply": pb.ListTrialsReply(trials=[committed], last_ledger_seq=9),
        "status_request": pb.StatusRequest(),
        "status_reply": pb.StatusReply(
            run_id="run",
            software="0.1.0",
            uptime_s=1.5,
            task="reach",
            spec_digest=spec.digest(),
            ledger_seq=9,
            num_trials=8,
            num_quarantined=1,
            staging_bytes=2,
            disk_free_bytes=3,
            latest_weights=weights,
            trainer=trainer,
            actors=[
                pb.ActorStatus(
                    actor_id="arm-1",
                    incarnation="i-1",
                    kind=pb.ACTOR_KIND_REAL,
                    software="0.1.0",
                    is_alive=True,
                    heartbeat_age_s=0.5,
                    loop_state="running",
                    weights_version=7,
                    spool_trials=1,
                    spool_bytes=2,
                    fault="f",
                    clock_offset_s=-0.25,
                    rejected_trials=1,
                )
            ],
        ),
    }


def main() -> None:
    for name, message in build().items():
        path = GOLDEN / f"{name}.binpb"
        if not path.exists():
            path.write_bytes(message.SerializeToString(deterministic=True))
            sys.stdout.write(f"wrote {path}\n")


if __name__ == "__main__":
    main()
