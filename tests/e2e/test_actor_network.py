"""A network that is gone for 20 s, from the middle of a trial on: the arm does not notice."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from protos.trial import Outcome
from robot.sim.config import SimConfig
from services.actor_robot import robot_spec
from services.process import ExitCode
from tests.e2e.actor_rig import ActorProcess, check_delivered, count, make_config, make_ingress
from tests.fault_proxy import FaultProxy
from tests.services.rig import wait_until
from tests.services.small_weights import publish

CUT_S = 20.0


def _cut(proxy: FaultProxy) -> None:
    proxy.cut()


def _swallow(proxy: FaultProxy) -> None:
    proxy.toxics.is_blackhole = True


def sockets_of(pid: int | None) -> list[str]:
    """Returns the sockets that a process has open."""
    assert pid is not None
    files = [os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir()]
    return [file for file in files if file.startswith("socket:")]


@pytest.mark.parametrize(
    "fault", [_cut, pytest.param(_swallow, marks=pytest.mark.slow)], ids=["cut", "swallow"]
)
def test_a_dead_network_costs_no_deadline_and_no_trial(
    tmp_path: Path, fault: Callable[[FaultProxy], None]
) -> None:
    sim = SimConfig(control_hz=10.0, max_steps=20, image_size=40)
    config = make_config(tmp_path, "127.0.0.1:1", sim=sim)
    with (
        make_ingress(tmp_path / "learner", config) as ingress,
        FaultProxy(ingress.address) as proxy,
    ):
        config = make_config(
            tmp_path,
            proxy.address,
            sim=sim,
            policy="model",
            trials=None,
            wait_weights_s=10.0,
            unreachable_s=1.0,
        )
        publish(ingress.store / "weights", robot_spec(config), ledger_seq=10**6)
        with ActorProcess(tmp_path, config) as actor:
            ring = actor.ring()
            control = ring.control
            wait_until(lambda: control.num_ticks >= 10, timeout_s=60, what="half a trial")
            assert ring.has_open_trial
            missed_before, complete_before = control.num_missed, ring.num_complete
            fault(proxy)
            time.sleep(CUT_S)  # how long the cut lasts is the point of the test
            missed_in_cut = control.num_missed - missed_before
            assert not sockets_of(actor.pid_of("loop"))
            complete_in_cut = ring.num_complete - complete_before
            assert control.unsent_trials > 0
            proxy.heal()
            wait_until(
                lambda: ring.control.unsent_trials == 0 and ring.is_drained,
                timeout_s=15,
                what="everything kept arrives",
            )
            assert actor.stop() == ExitCode.DONE
        trials = check_delivered(config, ingress.store)
    # With more work on the machine than processors, plans are late whatever the network does.
    if os.getloadavg()[0] <= (os.cpu_count() or 1):
        assert missed_in_cut == 0
    for trial in trials:  # who waits for a network waits 2 s at least
        assert (np.diff(trial.steps["t_commanded_ns"]) < 1.9e9).all()
    assert complete_in_cut >= 4
    assert count(trials, Outcome.ABORTED) <= 1  # the one that was stopped
    assert len(trials) == ring.num_begun
    assert {t.provenance.weights_version for t in trials} == {1}
