"""Who may act as which actor: one lease an actor id, held by one process at a time.

A lease is kept alive by every call that shows its token. When nothing was heard for its time to
live, another process may take the actor id over; from then on the old token is worthless, so that
a process that was frozen and comes back cannot write any more. A lease that lapsed and that nobody
took stays valid: a pause of the network costs its holder nothing.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable
from dataclasses import dataclass


class LeaseLost(RuntimeError):
    """The token is of no lease that is in force; say Hello again."""


class ActorBusy(RuntimeError):
    """Another live process holds this actor id; the message says for how long it was silent."""


class TooManyActors(RuntimeError):
    """So many other actors are alive that no further one is allowed; one of them may end."""


@dataclass(frozen=True, kw_only=True)
class ActorReport:
    """What an actor last said about itself."""

    loop_state: str = ""
    weights_version: int = 0
    spool_trials: int = 0
    spool_bytes: int = 0
    rejected_trials: int = 0
    fault: str = ""


@dataclass(frozen=True, kw_only=True)
class Lease:
    """One actor id in the hands of one process."""

    actor_id: str
    incarnation: str
    token: int
    is_sim: bool
    software: str
    clock_offset_s: float
    heard_s: float
    """When it was last heard, on the clock of `Leases`."""
    report: ActorReport = ActorReport()


class Leases:
    """Grants, renews and revokes. Not thread-safe: belongs to the event loop.

    Args:
        ttl_s: Silence after which another process may take an actor id over.
        now_s: Monotonic clock.
        max_actors: How many actor ids are remembered; the longest silent one makes way.
        new_token: Draws a token that nobody can guess.
    """

    def __init__(
        self,
        *,
        ttl_s: float,
        now_s: Callable[[], float],
        max_actors: int = 256,
        new_token: Callable[[], int] = lambda: secrets.randbits(63) + 1,
    ) -> None:
        self.ttl_s = ttl_s
        self._now_s = now_s
        self._max_actors = max_actors
        self._new_token = new_token
        self._by_actor: dict[str, Lease] = {}
        self._actor_of: dict[int, str] = {}

    def grant(
        self,
        actor_id: str,
        incarnation: str,
        *,
        is_sim: bool,
        software: str,
        clock_offset_s: float = 0.0,
    ) -> Lease:
        """Grants a lease; the same process gets the one it has.

        Raises:
            ActorBusy: Another process was heard under this id within the time to live.
            TooManyActors: No other id is free.
        """
        now, held = self._now_s(), self._by_actor.get(actor_id)
        if held is not None and held.incarnation == incarnation:
            return self._keep(dataclasses.replace(held, heard_s=now, clock_offset_s=clock_offset_s))
        if held is not None and self.is_alive(held):
            raise ActorBusy(
                f"actor {actor_id} is held by another process ({held.incarnation}), heard "
                f"{now - held.heard_s:.1f} s ago; stop that one, or wait {self.ttl_s:g} s"
            )
        if held is None and len(self._by_actor) >= self._max_actors:
            oldest = min(self._by_actor.values(), key=lambda lease: lease.heard_s)
            if self.is_alive(oldest):
                raise TooManyActors(f"{self._max_actors} actors are alive; no more are allowed")
            held = self._by_actor.pop(oldest.actor_id)
        if held is not None:
            del self._actor_of[held.token]
        token = self._new_token()
        self._actor_of[token] = actor_id
        return self._keep(
            Lease(
                actor_id=actor_id,
                incarnation=incarnation,
                token=token,
                is_sim=is_sim,
                software=software,
                clock_offset_s=clock_offset_s,
                heard_s=now,
            )
        )

    def renew(self, token: int, report: ActorReport | None = None) -> Lease:
        """Returns the lease of `token` and counts its holder as heard; LeaseLost if there is none.

        Args:
            token: As granted.
            report: What the actor says of itself; None keeps what it said before.
        """
        actor_id = self._actor_of.get(token)
        if actor_id is None:
            raise LeaseLost("this lease is not in force: another process has it, or we restarted")
        lease = dataclasses.replace(self._by_actor[actor_id], heard_s=self._now_s())
        return self._keep(lease if report is None else dataclasses.replace(lease, report=report))

    def release(self, token: int) -> None:
        """Ends a lease; its actor id is free at once. LeaseLost if there is none."""
        lease = self.renew(token)
        del self._by_actor[lease.actor_id], self._actor_of[token]

    def is_alive(self, lease: Lease) -> bool:
        """Whether the holder was heard within the time to live."""
        return self.silence_s(lease) < self.ttl_s

    def silence_s(self, lease: Lease) -> float:
        """Returns for how long the holder was not heard."""
        return self._now_s() - lease.heard_s

    def all(self) -> list[Lease]:
        """Returns every lease, by actor id."""
        return [self._by_actor[actor_id] for actor_id in sorted(self._by_actor)]

    def _keep(self, lease: Lease) -> Lease:
        self._by_actor[lease.actor_id] = lease
        return lease
