"""A runner on a counting robot and simulated time, and the trials that it records."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from protos.trial import FALLBACK_CODES, Fallback, Provenance, Source, Trial, new_trial_id
from robot.clock import Clock, SimulatedClock
from robot.env import RobotEnv
from robot.fakes import make_counting_env
from services.overseer import Overseer
from services.pilot import Pilot, RandomChoice
from services.planning import Planning
from services.ring import RingReader, RingWriter
from services.ring_memory import Ring, ring_folder
from services.trial_run import TrialLimits, TrialOrder, TrialResult, TrialRunner
from tests.services.assembler import TrialAssembler

MS = 1_000_000
PERIOD_NS = 100 * MS
NONE, SHIFTED, HOLD, OPERATOR = (
    FALLBACK_CODES[f] for f in (Fallback.NONE, Fallback.SHIFTED, Fallback.HOLD, Fallback.OPERATOR)
)


class PlannedPilot:
    """Plans in the given time; action k of a trial is k / 100, and its plan goes on from there."""

    def __init__(self, clock: SimulatedClock, plan_ms: Sequence[float] = ()) -> None:
        self.uncertainty: Callable[[int], float] = lambda k: 0.1 * k
        self.num_calls = 0
        self.evals: list[bool] = []
        self._clock = clock
        self._plan_ms = plan_ms

    def rest_of_plan(self) -> np.ndarray:
        return np.arange(1, 3, dtype=np.float32)[:, None].repeat(2, 1) / 10 + self.num_calls

    def reset(self) -> None:
        self.num_calls = 0

    def act(self, observation: Mapping[str, np.ndarray], *, is_eval: bool) -> RandomChoice:
        k = self.num_calls
        assert observation["state"].dtype == np.float32
        self._clock.advance(round(self._plan_ms[k] * MS) if k < len(self._plan_ms) else 0)
        self.num_calls += 1
        self.evals.append(is_eval)
        action = np.full(2, k / 100, np.float32)
        return RandomChoice(action=action, value=float(k), uncertainty=self.uncertainty(k))


class Bench:
    """A runner on a counting robot and simulated time, and the trials that it recorded."""

    def __init__(self) -> None:
        self.clock: Clock = SimulatedClock()
        self.env = make_counting_env(self.clock, max_steps=8, success_at=None)
        self.ring: Ring | None = None
        self.is_stopping: Callable[[], bool] = lambda: False
        self.limits = TrialLimits()
        self.planning: Planning | None = None
        self.person: Overseer | None = None

    def run(self, pilot: Pilot, *, env: RobotEnv | None = None) -> TrialResult:
        env = env or self.env
        path = ring_folder() / f"offworld-test-{os.getpid()}-{secrets.token_hex(4)}"
        self.ring = Ring.create(path, env.spec, num_trials=4)
        runner = TrialRunner(
            env=env,
            clock=self.clock,
            writer=RingWriter(self.ring),
            control=self.ring.control,
            limits=self.limits,
            should_stop=lambda: self.is_stopping(),
            planning=self.planning,
            overseer=self.person,
        )
        return runner.run(make_order(), pilot)

    def trial(self) -> Trial:
        assert self.ring is not None
        assembler, reader = TrialAssembler(), RingReader(self.ring)
        (trial,) = [t for r in reader.poll(0) if (t := assembler.add(r)) is not None]
        return trial


def make_order() -> TrialOrder:
    provenance = Provenance(
        actor="a",
        incarnation="i",
        source=Source.ONLINE,
        seed=5,
        started_unix_ns=1,
        software="test",
        weights_version=3,
    )
    return TrialOrder(trial_id=new_trial_id(), provenance=provenance, is_eval=False)


class StallingClock(SimulatedClock):
    """Wakes up late: the n-th sleep of a trial ends so many milliseconds after its time."""

    def __init__(self, late_ms: Mapping[int, float]) -> None:
        super().__init__()
        self._late_ms = late_ms
        self._num_sleeps = 0

    def sleep_until_ns(self, t_ns: int) -> None:
        super().sleep_until_ns(t_ns)
        self.advance(round(self._late_ms.get(self._num_sleeps, 0.0) * MS))
        self._num_sleeps += 1
