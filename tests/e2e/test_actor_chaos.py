"""Everything that can die, dies at random, for minutes; afterwards both sides hold the same."""

from __future__ import annotations

import os
import random
import secrets
import time
from pathlib import Path

import pytest

from protos.trial import Outcome
from services.process import ExitCode
from services.ring_memory import Ring
from tests.e2e.actor_rig import (
    ActorProcess,
    check_delivered,
    count,
    make_config,
    make_ingress,
)
from tests.fault_proxy import FaultProxy
from tests.services.rig import is_gone, wait_until

VICTIMS = ("loop", "recorder", "loop and recorder", "actor", "ingress", "link", "connections")


@pytest.mark.slow
def test_nothing_is_lost_or_doubled_whatever_dies(tmp_path: Path) -> None:
    seed = int(os.environ.get("OFFWORLD_TEST_SEED", secrets.randbits(32)))
    num_kills = int(os.environ.get("OFFWORLD_TEST_KILLS", "40"))
    print(f"OFFWORLD_TEST_SEED={seed} OFFWORLD_TEST_KILLS={num_kills}")  # noqa: T201
    dice = random.Random(seed)
    config = make_config(tmp_path, "127.0.0.1:1", trials=None)
    learner = tmp_path / "learner"
    rings: list[Ring] = []
    history: list[str] = []
    ingress = make_ingress(learner, config)
    with FaultProxy(ingress.address) as proxy:
        config = make_config(tmp_path, proxy.address, trials=None)
        actor = ActorProcess(tmp_path, config)
        try:
            rings.append(actor.ring())
            for _ in range(num_kills):
                _go_on(actor, rings[-1], dice.randrange(5, 40))
                victim = dice.choice(VICTIMS)
                history.append(victim)
                if victim == "actor":
                    children = [actor.pid_of(name) for name in ("loop", "recorder")]
                    actor.process.kill()
                    actor.process.wait()
                    for pid in children:
                        wait_until(lambda pid=pid: pid is None or is_gone(pid), what="it ends")
                    actor = ActorProcess(tmp_path, config)
                    rings.append(actor.ring())
                elif victim == "ingress":
                    ingress.kill()
                    ingress = make_ingress(learner, config)
                    proxy.upstream = ingress.address
                elif victim == "link":
                    proxy.cut()
                    time.sleep(dice.uniform(0.1, 1.5))  # how long the cut lasts
                    proxy.heal()
                elif victim == "connections":
                    proxy.reset()
                else:
                    for name in victim.split(" and "):
                        actor.kill(name)
            assert actor.stop() == ExitCode.DONE
            config = make_config(tmp_path, proxy.address, trials=1)
            last = ActorProcess(tmp_path, config)
            assert last.wait(90) == ExitCode.DONE
        finally:
            print(history)  # noqa: T201
            for process in (actor.process, ingress.process):
                process.kill()
                process.wait()
    trials = check_delivered(config, ingress.store)
    num_begun = sum(ring.num_begun for ring in rings) + 1
    num_complete = sum(ring.num_complete for ring in rings) + 1
    print(f"{num_begun} trials, {num_complete} complete")  # noqa: T201
    assert len(trials) == num_begun
    assert count(trials, Outcome.FAILURE) == num_complete


def _go_on(actor: ActorProcess, ring: Ring, num_records: int) -> None:
    goal = ring.control.head + num_records
    wait_until(
        lambda: ring.control.head >= goal or actor.process.poll() is not None,
        timeout_s=60,
        what="trials go on",
    )
    assert actor.process.poll() is None, actor.log_text()[-5000:]
