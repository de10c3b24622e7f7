"""Leases on a clock that the tests move."""

from __future__ import annotations

import itertools

import pytest
from grpc import StatusCode

from services.leases import ActorBusy, ActorReport, LeaseLost, Leases, TooManyActors
from services.refusals import translate


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def leases(clock: Clock) -> Leases:
    tokens = itertools.count(1)
    return Leases(ttl_s=5.0, now_s=clock, max_actors=3, new_token=lambda: next(tokens))


def grant(leases: Leases, actor_id: str = "arm", incarnation: str = "a") -> int:
    return leases.grant(actor_id, incarnation, is_sim=False, software="1").token


def test_same_process_gets_the_lease_it_has(leases: Leases) -> None:
    assert grant(leases) == grant(leases)


def test_second_live_process_is_told_to_wait(leases: Leases, clock: Clock) -> None:
    token = grant(leases)
    clock.now_s += 4.9
    with pytest.raises(ActorBusy, match="heard 4.9 s ago"):
        grant(leases, incarnation="b")
    assert leases.renew(token).incarnation == "a"


def test_silent_holder_is_replaced_and_fenced(leases: Leases, clock: Clock) -> None:
    old = grant(leases)
    clock.now_s += 5.0
    new = grant(leases, incarnation="b")
    assert new != old
    with pytest.raises(LeaseLost):
        leases.renew(old)
    assert leases.renew(new).incarnation == "b"
    with pytest.raises(ActorBusy):
        grant(leases, incarnation="a")


def test_heartbeats_keep_the_lease_for_ever(leases: Leases, clock: Clock) -> None:
    token = grant(leases)
    for _ in range(100):
        clock.now_s += 4.0
        leases.renew(token, ActorReport(loop_state="in_trial"))
    assert leases.all()[0].report.loop_state == "in_trial"
    with pytest.raises(ActorBusy):
        grant(leases, incarnation="b")


def test_lapsed_lease_that_nobody_took_is_still_good(leases: Leases, clock: Clock) -> None:
    token = grant(leases)
    clock.now_s += 1000.0
    assert not leases.is_alive(leases.all()[0])
    assert leases.renew(token).token == token
    assert leases.is_alive(leases.all()[0])


def test_token_nobody_was_given_is_worthless(leases: Leases) -> None:
    grant(leases)
    for token in (0, 99, 1 << 63):
        with pytest.raises(LeaseLost):
            leases.renew(token)


def test_goodbye_frees_the_actor_id_at_once(leases: Leases) -> None:
    token = grant(leases)
    leases.release(token)
    grant(leases, incarnation="b")
    with pytest.raises(LeaseLost):
        leases.renew(token)


def test_actors_are_bounded_and_the_longest_silent_one_makes_way(
    leases: Leases, clock: Clock
) -> None:
    tokens = [grant(leases, actor_id=name) for name in "abc"]
    with pytest.raises(TooManyActors, match="3 actors are alive") as caught:
        grant(leases, actor_id="d")
    refused = translate(caught.value)
    assert refused is not None
    assert refused.code is StatusCode.RESOURCE_EXHAUSTED, "it may try again, its id is not taken"
    clock.now_s += 10.0
    leases.renew(tokens[1])
    grant(leases, actor_id="d")
    assert [lease.actor_id for lease in leases.all()] == ["b", "c", "d"]
    with pytest.raises(LeaseLost):
        leases.renew(tokens[0])


def test_two_actors_do_not_disturb_each_other(leases: Leases) -> None:
    first, second = grant(leases, actor_id="a"), grant(leases, actor_id="b", incarnation="z")
    assert leases.renew(first).actor_id == "a"
    assert leases.renew(second).actor_id == "b"


def test_real_tokens_are_not_guessable() -> None:
    leases = Leases(ttl_s=5.0, now_s=lambda: 0.0)
    tokens = {grant(leases, actor_id=f"a{i}") for i in range(100)}
    assert len(tokens) == 100
    assert max(tokens) > 1 << 50
