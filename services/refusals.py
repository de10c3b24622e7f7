"""Which gRPC status an error of the learner is, in one place."""

from __future__ import annotations

import sqlite3

from grpc import StatusCode

from learner.durable import StoreFull
from protos.trial import SpecMismatch, TrialRejected
from services.leases import LeaseLost, TooManyActors
from services.server import Refused
from services.staging import BadChunk, ChunkDamaged


def invalid(reason: str) -> Refused:
    """Makes the refusal of a request that contradicts itself or the limits."""
    return Refused(StatusCode.INVALID_ARGUMENT, reason)


def translate(error: Exception) -> Refused | None:
    """Says which refusal an exception is; None if it is a bug."""
    match error:
        case LeaseLost():
            return Refused(StatusCode.FAILED_PRECONDITION, str(error))
        case BadChunk() | TrialRejected() | SpecMismatch():
            return invalid(str(error))
        case ChunkDamaged():
            return Refused(StatusCode.ABORTED, str(error))
        case StoreFull() | TooManyActors():
            return Refused(StatusCode.RESOURCE_EXHAUSTED, str(error))
        case sqlite3.OperationalError():
            return Refused(StatusCode.UNAVAILABLE, f"the store does not answer: {error}")
        case _:
            return None
