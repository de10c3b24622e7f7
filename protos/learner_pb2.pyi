from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ActorKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACTOR_KIND_UNSPECIFIED: _ClassVar[ActorKind]
    ACTOR_KIND_REAL: _ClassVar[ActorKind]
    ACTOR_KIND_SIM: _ClassVar[ActorKind]

class HelloVerdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HELLO_VERDICT_UNSPECIFIED: _ClassVar[HelloVerdict]
    HELLO_VERDICT_OK: _ClassVar[HelloVerdict]
    HELLO_VERDICT_SPEC_MISMATCH: _ClassVar[HelloVerdict]
    HELLO_VERDICT_UPGRADE: _ClassVar[HelloVerdict]
    HELLO_VERDICT_BUSY: _ClassVar[HelloVerdict]

class TrialState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TRIAL_STATE_UNSPECIFIED: _ClassVar[TrialState]
    TRIAL_STATE_MISSING: _ClassVar[TrialState]
    TRIAL_STATE_STAGED: _ClassVar[TrialState]
    TRIAL_STATE_STORED: _ClassVar[TrialState]
    TRIAL_STATE_REJECTED: _ClassVar[TrialState]

class CommitVerdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COMMIT_VERDICT_UNSPECIFIED: _ClassVar[CommitVerdict]
    COMMIT_VERDICT_STORED: _ClassVar[CommitVerdict]
    COMMIT_VERDICT_DUPLICATE: _ClassVar[CommitVerdict]
    COMMIT_VERDICT_INCOMPLETE: _ClassVar[CommitVerdict]
    COMMIT_VERDICT_REJECTED: _ClassVar[CommitVerdict]

class LiveKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LIVE_KIND_UNSPECIFIED: _ClassVar[LiveKind]
    LIVE_KIND_TRIAL_BEGUN: _ClassVar[LiveKind]
    LIVE_KIND_STEP: _ClassVar[LiveKind]
    LIVE_KIND_TRIAL_ENDED: _ClassVar[LiveKind]
    LIVE_KIND_FAULT: _ClassVar[LiveKind]
    LIVE_KIND_NOTE: _ClassVar[LiveKind]
ACTOR_KIND_UNSPECIFIED: ActorKind
ACTOR_KIND_REAL: ActorKind
ACTOR_KIND_SIM: ActorKind
HELLO_VERDICT_UNSPECIFIED: HelloVerdict
HELLO_VERDICT_OK: HelloVerdict
HELLO_VERDICT_SPEC_MISMATCH: HelloVerdict
HELLO_VERDICT_UPGRADE: HelloVerdict
HELLO_VERDICT_BUSY: HelloVerdict
TRIAL_STATE_UNSPECIFIED: TrialState
TRIAL_STATE_MISSING: TrialState
TRIAL_STATE_STAGED: TrialState
TRIAL_STATE_STORED: TrialState
TRIAL_STATE_REJECTED: TrialState
COMMIT_VERDICT_UNSPECIFIED: CommitVerdict
COMMIT_VERDICT_STORED: CommitVerdict
COMMIT_VERDICT_DUPLICATE: CommitVerdict
COMMIT_VERDICT_INCOMPLETE: CommitVerdict
COMMIT_VERDICT_REJECTED: CommitVerdict
LIVE_KIND_UNSPECIFIED: LiveKind
LIVE_KIND_TRIAL_BEGUN: LiveKind
LIVE_KIND_STEP: LiveKind
LIVE_KIND_TRIAL_ENDED: LiveKind
LIVE_KIND_FAULT: LiveKind
LIVE_KIND_NOTE: LiveKind

class HelloRequest(_message.Message):
    __slots__ = ("proto_major", "proto_minor", "actor_id", "incarnation", "kind", "spec_json", "spec_digest", "control_hz", "software", "sent_unix_ns")
    PROTO_MAJOR_FIELD_NUMBER: _ClassVar[int]
    PROTO_MINOR_FIELD_NUMBER: _ClassVar[int]
    ACTOR_ID_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SPEC_JSON_FIELD_NUMBER: _ClassVar[int]
    SPEC_DIGEST_FIELD_NUMBER: _ClassVar[int]
    CONTROL_HZ_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    SENT_UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    proto_major: int
    proto_minor: int
    actor_id: str
    incarnation: str
    kind: ActorKind
    spec_json: str
    spec_digest: str
    control_hz: float
    software: str
    sent_unix_ns: int
    def __init__(self, proto_major: _Optional[int] = ..., proto_minor: _Optional[int] = ..., actor_id: _Optional[str] = ..., incarnation: _Optional[str] = ..., kind: _Optional[_Union[ActorKind, str]] = ..., spec_json: _Optional[str] = ..., spec_digest: _Optional[str] = ..., control_hz: _Optional[float] = ..., software: _Optional[str] = ..., sent_unix_ns: _Optional[int] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_chunk_bytes", "max_trial_bytes", "max_query_trials", "max_log_events")
    MAX_CHUNK_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_TRIAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_QUERY_TRIALS_FIELD_NUMBER: _ClassVar[int]
    MAX_LOG_EVENTS_FIELD_NUMBER: _ClassVar[int]
    max_chunk_bytes: int
    max_trial_bytes: int
    max_query_trials: int
    max_log_events: int
    def __init__(self, max_chunk_bytes: _Optional[int] = ..., max_trial_bytes: _Optional[int] = ..., max_query_trials: _Optional[int] = ..., max_log_events: _Optional[int] = ...) -> None: ...

class HelloReply(_message.Message):
    __slots__ = ("verdict", "message", "difference", "run_id", "lease_token", "lease_ttl_s", "policy_config_json", "latest_weights", "limits", "learner_unix_ns", "software", "proto_major", "proto_minor")
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    LEASE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    LEASE_TTL_S_FIELD_NUMBER: _ClassVar[int]
    POLICY_CONFIG_JSON_FIELD_NUMBER: _ClassVar[int]
    LATEST_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    LEARNER_UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    PROTO_MAJOR_FIELD_NUMBER: _ClassVar[int]
    PROTO_MINOR_FIELD_NUMBER: _ClassVar[int]
    verdict: HelloVerdict
    message: str
    difference: _containers.RepeatedScalarFieldContainer[str]
    run_id: str
    lease_token: int
    lease_ttl_s: float
    policy_config_json: str
    latest_weights: WeightsRef
    limits: Limits
    learner_unix_ns: int
    software: str
    proto_major: int
    proto_minor: int
    def __init__(self, verdict: _Optional[_Union[HelloVerdict, str]] = ..., message: _Optional[str] = ..., difference: _Optional[_Iterable[str]] = ..., run_id: _Optional[str] = ..., lease_token: _Optional[int] = ..., lease_ttl_s: _Optional[float] = ..., policy_config_json: _Optional[str] = ..., latest_weights: _Optional[_Union[WeightsRef, _Mapping]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., learner_unix_ns: _Optional[int] = ..., software: _Optional[str] = ..., proto_major: _Optional[int] = ..., proto_minor: _Optional[int] = ...) -> None: ...

class HeartbeatRequest(_message.Message):
    __slots__ = ("lease_token", "loop_state", "weights_version", "spool_trials", "spool_bytes", "fault", "rejected_trials", "is_leaving")
    LEASE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    LOOP_STATE_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_VERSION_FIELD_NUMBER: _ClassVar[int]
    SPOOL_TRIALS_FIELD_NUMBER: _ClassVar[int]
    SPOOL_BYTES_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    REJECTED_TRIALS_FIELD_NUMBER: _ClassVar[int]
    IS_LEAVING_FIELD_NUMBER: _ClassVar[int]
    lease_token: int
    loop_state: str
    weights_version: int
    spool_trials: int
    spool_bytes: int
    fault: str
    rejected_trials: int
    is_leaving: bool
    def __init__(self, lease_token: _Optional[int] = ..., loop_state: _Optional[str] = ..., weights_version: _Optional[int] = ..., spool_trials: _Optional[int] = ..., spool_bytes: _Optional[int] = ..., fault: _Optional[str] = ..., rejected_trials: _Optional[int] = ..., is_leaving: _Optional[bool] = ...) -> None: ...

class HeartbeatReply(_message.Message):
    __slots__ = ("is_lease_valid", "message", "latest_weights", "trainer", "trained_ledger_seq", "ledger_seq")
    IS_LEASE_VALID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    LATEST_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    TRAINER_FIELD_NUMBER: _ClassVar[int]
    TRAINED_LEDGER_SEQ_FIELD_NUMBER: _ClassVar[int]
    LEDGER_SEQ_FIELD_NUMBER: _ClassVar[int]
    is_lease_valid: bool
    message: str
    latest_weights: WeightsRef
    trainer: TrainerStatus
    trained_ledger_seq: int
    ledger_seq: int
    def __init__(self, is_lease_valid: _Optional[bool] = ..., message: _Optional[str] = ..., latest_weights: _Optional[_Union[WeightsRef, _Mapping]] = ..., trainer: _Optional[_Union[TrainerStatus, _Mapping]] = ..., trained_ledger_seq: _Optional[int] = ..., ledger_seq: _Optional[int] = ...) -> None: ...

class QueryTrialsRequest(_message.Message):
    __slots__ = ("trial_ids",)
    TRIAL_IDS_FIELD_NUMBER: _ClassVar[int]
    trial_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, trial_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class ChunkRange(_message.Message):
    __slots__ = ("first", "count")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    first: int
    count: int
    def __init__(self, first: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class TrialHolding(_message.Message):
    __slots__ = ("trial_id", "state", "trial_digest", "ledger_seq", "payload_sha256", "received", "reason")
    TRIAL_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    TRIAL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    LEDGER_SEQ_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_SHA256_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    trial_id: str
    state: TrialState
    trial_digest: str
    ledger_seq: int
    payload_sha256: str
    received: _containers.RepeatedCompositeFieldContainer[ChunkRange]
    reason: str
    def __init__(self, trial_id: _Optional[str] = ..., state: _Optional[_Union[TrialState, str]] = ..., trial_digest: _Optional[str] = ..., ledger_seq: _Optional[int] = ..., payload_sha256: _Optional[str] = ..., received: _Optional[_Iterable[_Union[ChunkRange, _Mapping]]] = ..., reason: _Optional[str] = ...) -> None: ...

class QueryTrialsReply(_message.Message):
    __slots__ = ("holdings",)
    HOLDINGS_FIELD_NUMBER: _ClassVar[int]
    holdings: _containers.RepeatedCompositeFieldContainer[TrialHolding]
    def __init__(self, holdings: _Optional[_Iterable[_Union[TrialHolding, _Mapping]]] = ...) -> None: ...

class PutChunkRequest(_message.Message):
    __slots__ = ("lease_token", "trial_id", "payload_sha256", "total_bytes", "index", "count", "offset", "crc32", "data")
    LEASE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TRIAL_ID_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_SHA256_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    CRC32_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    lease_token: int
    trial_id: str
    payload_sha256: str
    total_bytes: int
    index: int
    count: int
    offset: int
    crc32: int
    data: bytes
    def __init__(self, lease_token: _Optional[int] = ..., trial_id: _Optional[str] = ..., payload_sha256: _Optional[str] = ..., total_bytes: _Optional[int] = ..., index: _Optional[int] = ..., count: _Optional[int] = ..., offset: _Optional[int] = ..., crc32: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class PutChunkReply(_message.Message):
    __slots__ = ("num_received",)
    NUM_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    num_received: int
    def __init__(self, num_received: _Optional[int] = ...) -> None: ...

class Column(_message.Message):
    __slots__ = ("name", "dtype", "shape", "num_bytes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    NUM_BYTES_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    num_bytes: int
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., num_bytes: _Optional[int] = ...) -> None: ...

class TrialManifest(_message.Message):
    __slots__ = ("header_json", "columns", "payload_bytes")
    HEADER_JSON_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    header_json: str
    columns: _containers.RepeatedCompositeFieldContainer[Column]
    payload_bytes: int
    def __init__(self, header_json: _Optional[str] = ..., columns: _Optional[_Iterable[_Union[Column, _Mapping]]] = ..., payload_bytes: _Optional[int] = ...) -> None: ...

class CommitTrialRequest(_message.Message):
    __slots__ = ("lease_token", "trial_id", "manifest", "payload_sha256", "trial_digest")
    LEASE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TRIAL_ID_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_SHA256_FIELD_NUMBER: _ClassVar[int]
    TRIAL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    lease_token: int
    trial_id: str
    manifest: TrialManifest
    payload_sha256: str
    trial_digest: str
    def __init__(self, lease_token: _Optional[int] = ..., trial_id: _Optional[str] = ..., manifest: _Optional[_Union[TrialManifest, _Mapping]] = ..., payload_sha256: _Optional[str] = ..., trial_digest: _Optional[str] = ...) -> None: ...

class CommitTrialReply(_message.Message):
    __slots__ = ("verdict", "ledger_seq", "reason", "received")
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    LEDGER_SEQ_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    verdict: CommitVerdict
    ledger_seq: int
    reason: str
    received: _containers.RepeatedCompositeFieldContainer[ChunkRange]
    def __init__(self, verdict: _Optional[_Union[CommitVerdict, str]] = ..., ledger_seq: _Optional[int] = ..., reason: _Optional[str] = ..., received: _Optional[_Iterable[_Union[ChunkRange, _Mapping]]] = ...) -> None: ...

class WeightsRef(_message.Message):
    __slots__ = ("version", "sha256", "num_bytes", "train_step", "created_unix_ns")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    NUM_BYTES_FIELD_NUMBER: _ClassVar[int]
    TRAIN_STEP_FIELD_NUMBER: _ClassVar[int]
    CREATED_UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    version: int
    sha256: str
    num_bytes: int
    train_step: int
    created_unix_ns: int
    def __init__(self, version: _Optional[int] = ..., sha256: _Optional[str] = ..., num_bytes: _Optional[int] = ..., train_step: _Optional[int] = ..., created_unix_ns: _Optional[int] = ...) -> None: ...

class GetWeightsManifestRequest(_message.Message):
    __slots__ = ("after_version", "wait_s")
    AFTER_VERSION_FIELD_NUMBER: _ClassVar[int]
    WAIT_S_FIELD_NUMBER: _ClassVar[int]
    after_version: int
    wait_s: float
    def __init__(self, after_version: _Optional[int] = ..., wait_s: _Optional[float] = ...) -> None: ...

class GetWeightsManifestReply(_message.Message):
    __slots__ = ("weights", "manifest_json", "run_id")
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_JSON_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    weights: WeightsRef
    manifest_json: str
    run_id: str
    def __init__(self, weights: _Optional[_Union[WeightsRef, _Mapping]] = ..., manifest_json: _Optional[str] = ..., run_id: _Optional[str] = ...) -> None: ...

class GetWeightsChunkRequest(_message.Message):
    __slots__ = ("version", "offset", "length")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    version: int
    offset: int
    length: int
    def __init__(self, version: _Optional[int] = ..., offset: _Optional[int] = ..., length: _Optional[int] = ...) -> None: ...

class GetWeightsChunkReply(_message.Message):
    __slots__ = ("offset", "data", "crc32")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    CRC32_FIELD_NUMBER: _ClassVar[int]
    offset: int
    data: bytes
    crc32: int
    def __init__(self, offset: _Optional[int] = ..., data: _Optional[bytes] = ..., crc32: _Optional[int] = ...) -> None: ...

class TrainerStatus(_message.Message):
    __slots__ = ("state", "num_updates", "updates_owed", "updates_per_second", "num_offline_trials", "num_online_trials", "weights_version", "ledger_seq", "status_age_s", "waiting_for")
    STATE_FIELD_NUMBER: _ClassVar[int]
    NUM_UPDATES_FIELD_NUMBER: _ClassVar[int]
    UPDATES_OWED_FIELD_NUMBER: _ClassVar[int]
    UPDATES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    NUM_OFFLINE_TRIALS_FIELD_NUMBER: _ClassVar[int]
    NUM_ONLINE_TRIALS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_VERSION_FIELD_NUMBER: _ClassVar[int]
    LEDGER_SEQ_FIELD_NUMBER: _ClassVar[int]
    STATUS_AGE_S_FIELD_NUMBER: _ClassVar[int]
    WAITING_FOR_FIELD_NUMBER: _ClassVar[int]
    state: str
    num_updates: int
    updates_owed: int
    updates_per_second: float
    num_offline_trials: int
    num_online_trials: int
    weights_version: int
    ledger_seq: int
    status_age_s: float
    waiting_for: str
    def __init__(self, state: _Optional[str] = ..., num_updates: _Optional[int] = ..., updates_owed: _Optional[int] = ..., updates_per_second: _Optional[float] = ..., num_offline_trials: _Optional[int] = ..., num_online_trials: _Optional[int] = ..., weights_version: _Optional[int] = ..., ledger_seq: _Optional[int] = ..., status_age_s: _Optional[float] = ..., waiting_for: _Optional[str] = ...) -> None: ...

class LiveEvent(_message.Message):
    __slots__ = ("unix_ns", "actor_id", "kind", "trial_id", "step_index", "reward", "plan_value", "plan_uncertainty", "weights_version", "is_deadline_missed", "outcome", "text")
    UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    ACTOR_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TRIAL_ID_FIELD_NUMBER: _ClassVar[int]
    STEP_INDEX_FIELD_NUMBER: _ClassVar[int]
    REWARD_FIELD_NUMBER: _ClassVar[int]
    PLAN_VALUE_FIELD_NUMBER: _ClassVar[int]
    PLAN_UNCERTAINTY_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_VERSION_FIELD_NUMBER: _ClassVar[int]
    IS_DEADLINE_MISSED_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    unix_ns: int
    actor_id: str
    kind: LiveKind
    trial_id: str
    step_index: int
    reward: float
    plan_value: float
    plan_uncertainty: float
    weights_version: int
    is_deadline_missed: bool
    outcome: str
    text: str
    def __init__(self, unix_ns: _Optional[int] = ..., actor_id: _Optional[str] = ..., kind: _Optional[_Union[LiveKind, str]] = ..., trial_id: _Optional[str] = ..., step_index: _Optional[int] = ..., reward: _Optional[float] = ..., plan_value: _Optional[float] = ..., plan_uncertainty: _Optional[float] = ..., weights_version: _Optional[int] = ..., is_deadline_missed: _Optional[bool] = ..., outcome: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class PutLogRequest(_message.Message):
    __slots__ = ("lease_token", "events", "num_dropped")
    LEASE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    NUM_DROPPED_FIELD_NUMBER: _ClassVar[int]
    lease_token: int
    events: _containers.RepeatedCompositeFieldContainer[LiveEvent]
    num_dropped: int
    def __init__(self, lease_token: _Optional[int] = ..., events: _Optional[_Iterable[_Union[LiveEvent, _Mapping]]] = ..., num_dropped: _Optional[int] = ...) -> None: ...

class PutLogReply(_message.Message):
    __slots__ = ("num_accepted",)
    NUM_ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    num_accepted: int
    def __init__(self, num_accepted: _Optional[int] = ...) -> None: ...

class LogCursor(_message.Message):
    __slots__ = ("ledger_seq", "log_epoch", "log_offset")
    LEDGER_SEQ_FIELD_NUMBER: _ClassVar[int]
    LOG_EPOCH_FIELD_NUMBER: _ClassVar[int]
    LOG_OFFSET_FIELD_NUMBER: _ClassVar[int]
    ledger_seq: int
    log_epoch: str
    log_offset: int
    def __init__(self, ledger_seq: _Optional[int] = ..., log_epoch: _Optional[str] = ..., log_offset: _Optional[int] = ...) -> None: ...

class TailLogRequest(_message.Message):
    __slots__ = ("after", "is_following", "with_live_events")
    AFTER_FIELD_NUMBER: _ClassVar[int]
    IS_FOLLOWING_FIELD_NUMBER: _ClassVar[int]
    WITH_LIVE_EVENTS_FIELD_NUMBER: _ClassVar[int]
    after: LogCursor
    is_following: bool
    with_live_events: bool
    def __init__(self, after: _Optional[_Union[LogCursor, _Mapping]] = ..., is_following: _Optional[bool] = ..., with_live_events: _Optional[bool] = ...) -> None: ...

class CommittedTrial(_message.Message):
    __slots__ = ("ledger_seq", "trial_id", "trial_digest", "source", "outcome", "num_steps", "total_reward", "actor_id", "weights_version", "position_index", "committed_unix_ns")
    LEDGER_SEQ_FIELD_NUMBER: _ClassVar[int]
    TRIAL_ID_FIELD_NUMBER: _ClassVar[int]
    TRIAL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    NUM_STEPS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_REWARD_FIELD_NUMBER: _ClassVar[int]
    ACTOR_ID_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_VERSION_FIELD_NUMBER: _ClassVar[int]
    POSITION_INDEX_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    ledger_seq: int
    trial_id: str
    trial_digest: str
    source: str
    outcome: str
    num_steps: int
    total_reward: float
    actor_id: str
    weights_version: int
    position_index: int
    committed_unix_ns: int
    def __init__(self, ledger_seq: _Optional[int] = ..., trial_id: _Optional[str] = ..., trial_digest: _Optional[str] = ..., source: _Optional[str] = ..., outcome: _Optional[str] = ..., num_steps: _Optional[int] = ..., total_reward: _Optional[float] = ..., actor_id: _Optional[str] = ..., weights_version: _Optional[int] = ..., position_index: _Optional[int] = ..., committed_unix_ns: _Optional[int] = ...) -> None: ...

class Dropped(_message.Message):
    __slots__ = ("num_events",)
    NUM_EVENTS_FIELD_NUMBER: _ClassVar[int]
    num_events: int
    def __init__(self, num_events: _Optional[int] = ...) -> None: ...

class TailLogReply(_message.Message):
    __slots__ = ("cursor", "trial", "live", "dropped")
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    TRIAL_FIELD_NUMBER: _ClassVar[int]
    LIVE_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    cursor: LogCursor
    trial: CommittedTrial
    live: LiveEvent
    dropped: Dropped
    def __init__(self, cursor: _Optional[_Union[LogCursor, _Mapping]] = ..., trial: _Optional[_Union[CommittedTrial, _Mapping]] = ..., live: _Optional[_Union[LiveEvent, _Mapping]] = ..., dropped: _Optional[_Union[Dropped, _Mapping]] = ...) -> None: ...

class ListTrialsRequest(_message.Message):
    __slots__ = ("after_ledger_seq", "limit")
    AFTER_LEDGER_SEQ_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    after_ledger_seq: int
    limit: int
    def __init__(self, after_ledger_seq: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class ListTrialsReply(_message.Message):
    __slots__ = ("trials", "last_ledger_seq")
    TRIALS_FIELD_NUMBER: _ClassVar[int]
    LAST_LEDGER_SEQ_FIELD_NUMBER: _ClassVar[int]
    trials: _containers.RepeatedCompositeFieldContainer[CommittedTrial]
    last_ledger_seq: int
    def __init__(self, trials: _Optional[_Iterable[_Union[CommittedTrial, _Mapping]]] = ..., last_ledger_seq: _Optional[int] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ActorStatus(_message.Message):
    __slots__ = ("actor_id", "incarnation", "kind", "software", "is_alive", "heartbeat_age_s", "loop_state", "weights_version", "spool_trials", "spool_bytes", "fault", "clock_offset_s", "rejected_trials")
    ACTOR_ID_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    IS_ALIVE_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_AGE_S_FIELD_NUMBER: _ClassVar[int]
    LOOP_STATE_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_VERSION_FIELD_NUMBER: _ClassVar[int]
    SPOOL_TRIALS_FIELD_NUMBER: _ClassVar[int]
    SPOOL_BYTES_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    CLOCK_OFFSET_S_FIELD_NUMBER: _ClassVar[int]
    REJECTED_TRIALS_FIELD_NUMBER: _ClassVar[int]
    actor_id: str
    incarnation: str
    kind: ActorKind
    software: str
    is_alive: bool
    heartbeat_age_s: float
    loop_state: str
    weights_version: int
    spool_trials: int
    spool_bytes: int
    fault: str
    clock_offset_s: float
    rejected_trials: int
    def __init__(self, actor_id: _Optional[str] = ..., incarnation: _Optional[str] = ..., kind: _Optional[_Union[ActorKind, str]] = ..., software: _Optional[str] = ..., is_alive: _Optional[bool] = ..., heartbeat_age_s: _Optional[float] = ..., loop_state: _Optional[str] = ..., weights_version: _Optional[int] = ..., spool_trials: _Optional[int] = ..., spool_bytes: _Optional[int] = ..., fault: _Optional[str] = ..., clock_offset_s: _Optional[float] = ..., rejected_trials: _Optional[int] = ...) -> None: ...

class StatusReply(_message.Message):
    __slots__ = ("run_id", "software", "uptime_s", "task", "spec_digest", "ledger_seq", "num_trials", "num_quarantined", "staging_bytes", "disk_free_bytes", "latest_weights", "trainer", "actors")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    UPTIME_S_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    SPEC_DIGEST_FIELD_NUMBER: _ClassVar[int]
    LEDGER_SEQ_FIELD_NUMBER: _ClassVar[int]
    NUM_TRIALS_FIELD_NUMBER: _ClassVar[int]
    NUM_QUARANTINED_FIELD_NUMBER: _ClassVar[int]
    STAGING_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    LATEST_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    TRAINER_FIELD_NUMBER: _ClassVar[int]
    ACTORS_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    software: str
    uptime_s: float
    task: str
    spec_digest: str
    ledger_seq: int
    num_trials: int
    num_quarantined: int
    staging_bytes: int
    disk_free_bytes: int
    latest_weights: WeightsRef
    trainer: TrainerStatus
    actors: _containers.RepeatedCompositeFieldContainer[ActorStatus]
    def __init__(self, run_id: _Optional[str] = ..., software: _Optional[str] = ..., uptime_s: _Optional[float] = ..., task: _Optional[str] = ..., spec_digest: _Optional[str] = ..., ledger_seq: _Optional[int] = ..., num_trials: _Optional[int] = ..., num_quarantined: _Optional[int] = ..., staging_bytes: _Optional[int] = ..., disk_free_bytes: _Optional[int] = ..., latest_weights: _Optional[_Union[WeightsRef, _Mapping]] = ..., trainer: _Optional[_Union[TrainerStatus, _Mapping]] = ..., actors: _Optional[_Iterable[_Union[ActorStatus, _Mapping]]] = ...) -> None: ...
