"""Whether an actor and the learner can work together, and the lease if they can."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable

from protos import codec
from protos import learner_pb2 as pb
from protos.trial import RobotSpec, SpecMismatch
from services.leases import ActorBusy, Lease, Leases
from services.process import software_version
from services.refusals import invalid

logger = logging.getLogger(__name__)

MAX_LINE_CHARS = 1000
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def greet(
    request: pb.HelloRequest, spec: RobotSpec, leases: Leases, unix_ns: Callable[[], int]
) -> pb.HelloReply:
    """Answers a Hello: versions first, then specs, then who else has this actor id.

    Args:
        request: What the actor says of itself.
        spec: What it must agree with.
        leases: Where a lease is granted when it does.
        unix_ns: Wall clock.

    Returns:
        The verdict with its reasons; with the token of the lease when it is OK.

    Raises:
        Refused: The request is malformed.
        TooManyActors: No further actor is allowed now.
    """
    reply = pb.HelloReply(
        learner_unix_ns=unix_ns(),
        software=software_version(),
        proto_major=codec.PROTO_MAJOR,
        proto_minor=codec.PROTO_MINOR,
    )
    if request.proto_major != codec.PROTO_MAJOR:
        older = "actor" if request.proto_major < codec.PROTO_MAJOR else "learner"
        reply.verdict = pb.HELLO_VERDICT_UPGRADE
        reply.message = (
            f"the actor speaks protocol {request.proto_major}.{request.proto_minor}, the "
            f"learner {codec.PROTO_MAJOR}.{codec.PROTO_MINOR}: upgrade the {older}"
        )
        return reply
    if not _ID.fullmatch(request.actor_id) or not _ID.fullmatch(request.incarnation):
        raise invalid("actor_id and incarnation must be 1 to 64 of A-Z a-z 0-9 . _ -")
    if request.kind not in (pb.ACTOR_KIND_REAL, pb.ACTOR_KIND_SIM):
        raise invalid("kind must be REAL or SIM")
    if difference := _difference(request, spec):
        reply.verdict = pb.HELLO_VERDICT_SPEC_MISMATCH
        reply.message = "actor and learner describe the robot differently"
        reply.difference.extend(line[:MAX_LINE_CHARS] for line in difference[:64])
        return reply
    try:
        lease = leases.grant(
            request.actor_id,
            request.incarnation,
            is_sim=request.kind == pb.ACTOR_KIND_SIM,
            software=request.software[:64],
            clock_offset_s=(request.sent_unix_ns - reply.learner_unix_ns) / 1e9,
        )
    except ActorBusy as error:
        reply.verdict, reply.message = pb.HELLO_VERDICT_BUSY, str(error)
        reply.lease_ttl_s = leases.ttl_s
        return reply
    logger.info("event=hello actor=%s incarnation=%s", lease.actor_id, lease.incarnation)
    reply.verdict = pb.HELLO_VERDICT_OK
    reply.lease_token, reply.lease_ttl_s = lease.token, leases.ttl_s
    return reply


def actor_status(lease: Lease, leases: Leases) -> pb.ActorStatus:
    """Says what is known of an actor."""
    report = lease.report
    return pb.ActorStatus(
        actor_id=lease.actor_id,
        incarnation=lease.incarnation,
        kind=pb.ACTOR_KIND_SIM if lease.is_sim else pb.ACTOR_KIND_REAL,
        software=lease.software,
        is_alive=leases.is_alive(lease),
        heartbeat_age_s=leases.silence_s(lease),
        loop_state=report.loop_state,
        weights_version=report.weights_version,
        spool_trials=report.spool_trials,
        spool_bytes=report.spool_bytes,
        fault=report.fault,
        clock_offset_s=lease.clock_offset_s,
        rejected_trials=report.rejected_trials,
    )


def _difference(request: pb.HelloRequest, spec: RobotSpec) -> list[str]:
    """Lists, from the learner's view, how the actor's robot differs; empty when it does not."""
    try:
        theirs = codec.decode_spec(request.spec_json)
    except SpecMismatch as error:
        return [str(error)]
    digest = theirs.digest()
    if digest != spec.digest():
        return spec.difference(theirs) or ["the text forms of the specs differ"]
    if request.spec_digest != digest:
        return [f"spec_digest: {digest} here, {request.spec_digest[:80]} there"]
    if not math.isclose(request.control_hz, theirs.control_hz):
        return [f"control_hz: {theirs.control_hz} in the spec, {request.control_hz} in the loop"]
    return []
