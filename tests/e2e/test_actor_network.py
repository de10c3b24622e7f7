"""A network that is gone for 20 s, from the middle of a trial on: the arm does not notice."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from protos.trial import Outcome, Trial
from robot.sim.config import SimConfig
from services.actor_config import ActorConfig
from services.actor_robot import robot_spec
from services.process import ExitCode
from tests.e2e.actor_rig import ActorProcess, check_delivered, count, make_config, make_ingress
from tests.fault_proxy import FaultProxy
from tests.services.rig import wait_until
from tests.services.small_weights import publish

CUT_S = 20.0
PERIOD_NS = 100_000_000
SIM = SimConfig(control_hz=10.0, max_steps=20, image_size=40)


def _cut(proxy: FaultProxy) -> None:
    proxy.cut()


def _swallow(proxy: FaultProxy) -> None:
    proxy.toxics.is_blackhole = True


def _config(folder: Path, learner: str, policy: str) -> ActorConfig:
    folder.mkdir()
    return make_config(
        folder,
        learner,
        sim=SIM,
        actor_id=policy,
        policy=policy,
        trials=None,
        wait_weights_s=10.0,
        unreachable_s=1.0,
    )


def _steps(trials: Sequence[Trial], *, begin_ns: int, end_ns: int) -> dict[str, np.ndarray]:
    """Returns the columns of all steps that were due in an interval. {name: [N]}"""
    names = ("t_scheduled_ns", "t_observed_ns", "t_planned_ns", "t_commanded_ns")
    columns = {n: np.concatenate([trial.steps[n] for trial in trials]) for n in names}
    due_ns = columns["t_scheduled_ns"]
    is_inside = (begin_ns <= due_ns) & (due_ns < end_ns)
    return {name: column[is_inside] for name, column in columns.items()}


@pytest.mark.alone
@pytest.mark.parametrize(
    "fault", [_cut, pytest.param(_swallow, marks=pytest.mark.slow)], ids=["cut", "swallow"]
)
def test_a_dead_network_costs_no_deadline_and_no_trial(
    tmp_path: Path, fault: Callable[[FaultProxy], None]
) -> None:
    """Two arms: one draws its actions, so that only the network could make it late; one plans."""
    spec = robot_spec(make_config(tmp_path, "127.0.0.1:1", sim=SIM))
    with ExitStack() as stack:
        ingress = stack.enter_context(
            make_ingress(tmp_path / "learner", make_config(tmp_path, "127.0.0.1:1", sim=SIM))
        )
        proxy = stack.enter_context(FaultProxy(ingress.address))
        weights = ingress.store / "weights"
        publish(weights, spec, ledger_seq=10**6)
        configs = [_config(tmp_path / p, proxy.address, p) for p in ("random", "model")]
        actors = [stack.enter_context(ActorProcess(c.spool.parent, c)) for c in configs]
        rings = [actor.ring() for actor in actors]
        wait_until(
            lambda: all(r.control.num_ticks >= 10 and r.has_open_trial for r in rings),
            timeout_s=60,
            what="both are in a trial",
        )
        before = [(ring.control.num_missed, ring.num_complete) for ring in rings]
        fault(proxy)
        began_ns = time.monotonic_ns()
        publish(weights, spec, ledger_seq=10**6)
        time.sleep(CUT_S)  # how long the cut lasts is the point of the test
        missed_in_cut = rings[0].control.num_missed - before[0][0]
        complete_in_cut = [r.num_complete - b[1] for r, b in zip(rings, before, strict=True)]
        assert min(ring.control.unsent_trials for ring in rings) > 0
        assert rings[1].control.weights_in_use == 1
        ended_ns = time.monotonic_ns()
        proxy.heal()
        wait_until(
            lambda: all(ring.control.unsent_trials == 0 for ring in rings),
            timeout_s=15,
            what="everything kept arrives",
        )
        wait_until(
            lambda: rings[1].control.weights_in_use == 2 and rings[1].has_open_trial,
            what="a trial with the new weights",
        )
        assert [actor.stop() for actor in actors] == [ExitCode.DONE] * 2
        drawn, planned = (check_delivered(config, ingress.store) for config in configs)
    assert missed_in_cut == 0
    assert min(complete_in_cut) >= 5
    for trials, ring in zip((drawn, planned), rings, strict=True):
        assert count(trials, Outcome.ABORTED) <= 1  # the one that was stopped
        assert len(trials) == ring.num_begun
        steps = _steps(trials, begin_ns=began_ns, end_ns=ended_ns)
        assert len(steps["t_scheduled_ns"]) >= 100
        late_ns = steps["t_commanded_ns"] - steps["t_scheduled_ns"]
        planning_ns = steps["t_planned_ns"] - steps["t_observed_ns"]
        assert (late_ns - planning_ns).max() <= PERIOD_NS
    assert {t.provenance.weights_version for t in drawn} == {0}
    in_cut = [t for t in planned if began_ns <= t.steps["t_scheduled_ns"][0] < ended_ns]
    assert {t.provenance.weights_version for t in in_cut} == {1}
    assert {t.provenance.weights_version for t in planned} == {1, 2}
