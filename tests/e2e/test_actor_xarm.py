"""The actor of a real arm: guard, loop and recorder on both vendor SDKs, at doubles of arm and
camera, and what it delivers beside a simulated actor's trials."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyrealsense2", reason="the camera's SDK is not installed")
pytest.importorskip("xarm", reason="the arm's SDK is not installed")

from protos.trial import FALLBACK_CODES, Fallback, Outcome, Trial  # noqa: E402
from robot.cell import CellConfig, CellTask  # noqa: E402
from robot.clock import MonotonicClock  # noqa: E402
from services import cli  # noqa: E402
from services.actor_config import ActorConfig  # noqa: E402
from services.actor_folder import ActorFolder  # noqa: E402
from services.actor_robot import make_env  # noqa: E402
from services.guard import FAULT_FILE  # noqa: E402
from services.kept_guard import KeptGuard  # noqa: E402
from services.process import ExitCode  # noqa: E402
from tests.e2e.actor_rig import ActorProcess, make_ingress, spooled, stored  # noqa: E402
from tests.e2e.doubles_rig import (  # noqa: E402
    LIMITS,
    NUM_STEPS,
    DoubleProcess,
    make_patient_config,
    write_limits,
)
from tests.e2e.system_rig import System  # noqa: E402
from tests.services.rig import is_gone, wait_until  # noqa: E402

NOBODY = "127.0.0.1:1"


pytestmark = pytest.mark.alone


@pytest.fixture
def double(tmp_path: Path) -> Iterator[DoubleProcess]:
    with DoubleProcess(tmp_path, "--rearrange-above=0.2") as made:
        yield made


def make_sim_config(config: ActorConfig, learner: str, folder: Path) -> ActorConfig:
    """Returns a simulated actor at the same task."""
    sim = dataclasses.replace(config.sim, **_task_of(config.cell))
    return dataclasses.replace(
        config,
        learner=learner,
        actor_id="simulated",
        robot="sim",
        sim=sim,
        calibration=None,
        spool=folder / "sim-spool",
        trials=1,
    )


def _task_of(cell: CellConfig) -> dict[str, object]:
    names = {field.name for field in dataclasses.fields(CellConfig)} - {"stream", "start_margin_m"}
    return {name: getattr(cell, name) for name in names}


def targets_of(trial: Trial, config: ActorConfig) -> np.ndarray:
    """Returns the targets of a trial in the plane: the start of its seed and what was executed."""
    start = CellTask(LIMITS, config.cell.start_margin_m).begin(trial.provenance.seed, None)
    steps_m = trial.steps["action_executed"].astype(np.float64) * np.array(trial.spec.action_scale)
    return np.array(start.position_m[:2]) + np.cumsum(steps_m, axis=0)


def test_five_trials_through_both_sdks_are_interchangeable_with_simulated_ones(
    tmp_path: Path, double: DoubleProcess
) -> None:
    config = make_patient_config(tmp_path, NOBODY, double)
    with make_ingress(tmp_path / "learner", config) as ingress:
        config = dataclasses.replace(config, learner=ingress.address)
        with ActorProcess(tmp_path, config) as actor:
            assert actor.wait(150) == ExitCode.DONE, actor.log_text()
        with ActorProcess(tmp_path, make_sim_config(config, ingress.address, tmp_path)) as actor:
            assert actor.wait(90) == ExitCode.DONE
        rows = stored(ingress.store)
    real = [trial for row, trial in rows if row.actor == config.actor_id]
    (simulated,) = [trial for row, trial in rows if row.actor == "simulated"]
    assert [trial.outcome is Outcome.ABORTED for trial in real] == [False] * 5
    assert {t.state for t in spooled(config.spool)} == {"acked"}
    # The same seed starts in the same place.
    here, there = (t.observations["state"][0, :2] for t in (real[0], simulated))
    np.testing.assert_allclose(here, there, atol=0.002)
    for trial in real:
        check_interchangeable(trial, simulated)
        targets_m = targets_of(trial, config)
        assert np.all(targets_m >= np.array(LIMITS.box_low_m[:2]) - 1e-6)
        assert np.all(targets_m <= np.array(LIMITS.box_high_m[:2]) + 1e-6)
        # It went where it was sent, but for the way of a tick or two.
        seen_m = trial.observations["state"][1:, :2]
        assert np.abs(seen_m - targets_m).max() < 0.05
        assert np.ptp(seen_m, axis=0).max() > 0.01
        # The cameras saw it.
        images = trial.observations["image.front"].astype(np.float64)
        assert np.abs(images[-1] - images[0]).mean() > 0.1


def check_interchangeable(real: Trial, simulated: Trial) -> None:
    """Asserts that nothing tells of which robot a trial is but what happened in it."""
    assert real.spec.difference(simulated.spec) == []
    assert real.num_steps == simulated.num_steps == NUM_STEPS
    # Each keeps what its own camera is: the same view through the same lens here.
    (double,), (drawn,) = real.provenance.cameras, simulated.provenance.cameras
    assert (double.name, drawn.name) == ("front", "front")
    assert double.serial.startswith("world-")
    for name in ("width", "height", "fx_px", "fy_px", "ppx_px", "ppy_px"):
        here, there = (getattr(camera.intrinsics, name) for camera in (double, drawn))
        assert here == pytest.approx(there), name
    for here, there in ((real.observations, simulated.observations), (real.steps, simulated.steps)):
        assert here.keys() == there.keys()
        for name, column in here.items():
            assert (column.dtype, column.shape) == (there[name].dtype, there[name].shape), name
    # The same scene in the same colours, the arm in the same units and conventions.
    here, there = (t.observations["image.front"][0].astype(np.float64) for t in (real, simulated))
    assert np.abs(here - there).mean() < np.abs(here[..., ::-1] - there).mean() - 5
    here, there = (t.observations["state"][0] for t in (real, simulated))
    np.testing.assert_allclose(here[2:], there[2:], atol=0.003)


@pytest.mark.slow
def test_it_plans_with_what_a_learner_made_of_simulated_trials_and_then_of_its_own(
    tmp_path: Path, double: DoubleProcess
) -> None:
    made = make_patient_config(tmp_path, NOBODY, double)
    config = dataclasses.replace(made, policy="model", trials=5, wait_weights_s=90.0)
    with System(tmp_path, config, offline=make_sim_config(made, NOBODY, tmp_path)) as system:
        assert system.actor.wait(300) == ExitCode.DONE, system.actor.log_text()
        rows = stored(system.view.root)
    trials = [trial for row, trial in rows if row.actor == config.actor_id]
    assert [t.outcome is Outcome.ABORTED for t in trials] == [False] * 5
    # Each trial waited for weights that had learned from the one before.
    versions = [t.provenance.weights_version for t in trials]
    assert versions == sorted(set(versions))
    assert versions[0] >= 1
    for trial in trials:
        assert trial.provenance.weights_digest
        is_planned = trial.steps["fallback"] == FALLBACK_CODES[Fallback.NONE]
        assert is_planned.mean() > 0.5
        np.testing.assert_array_equal(np.isfinite(trial.steps["plan_value"]), is_planned)
        assert set(trial.steps["weights_version"][is_planned]) == {trial.provenance.weights_version}
        assert np.abs(trial.steps["action_executed"]).max() > 0.01
        targets_m = targets_of(trial, config)
        assert np.all(targets_m >= np.array(LIMITS.box_low_m[:2]) - 1e-6)
        assert np.all(targets_m <= np.array(LIMITS.box_high_m[:2]) + 1e-6)
        assert np.abs(trial.observations["state"][1:, :2] - targets_m).max() < 0.05


def test_a_guard_that_dies_ends_the_actor_and_waits_for_a_person_and_a_stop_leaves_no_fault(
    tmp_path: Path, double: DoubleProcess
) -> None:
    config = dataclasses.replace(make_patient_config(tmp_path, NOBODY, double), trials=None)
    fault_file = config.spool / "run" / FAULT_FILE
    with ActorProcess(tmp_path, config) as actor:
        ring = actor.ring()
        wait_until(lambda: ring.control.num_ticks >= 3, timeout_s=60, what="a trial is on")
        children = [actor.pid_of(name) for name in ("guard", "loop", "recorder")]
        assert actor.kill("guard")
        assert actor.wait(60) == ExitCode.CRASHED, actor.log_text()
    assert all(pid is not None and is_gone(pid) for pid in children)
    assert json.loads(fault_file.read_text())["code"] == "guard_died"
    assert [t.state for t in spooled(config.spool)] == ["ready"]

    with ActorProcess(tmp_path, config) as actor:
        assert actor.wait(90) == ExitCode.CRASHED, actor.log_text()
    assert len(spooled(config.spool)) == 1  # no trial began: the arm was not let move
    assert json.loads(fault_file.read_text())["code"] == "guard_died"

    assert cli.main(["actor", "ack", "--spool", str(config.spool)]) == ExitCode.DONE
    with ActorProcess(tmp_path, config) as actor:
        ring = actor.ring()
        wait_until(lambda: ring.num_complete >= 1, timeout_s=60, what="a trial is complete")
        # In the reset that follows, or in the trial after it.
        assert actor.stop(timeout_s=60) == ExitCode.DONE, actor.log_text()
    assert not fault_file.exists()
    assert "killed" not in actor.log_text().rpartition("event=actor ")[2]


def test_a_loop_that_dies_is_not_started_again_and_its_guard_latches(
    tmp_path: Path, double: DoubleProcess
) -> None:
    config = dataclasses.replace(make_patient_config(tmp_path, NOBODY, double), trials=None)
    with ActorProcess(tmp_path, config) as actor:
        ring = actor.ring()
        wait_until(lambda: ring.control.num_ticks >= 3, timeout_s=60, what="a trial is on")
        guard = actor.pid_of("guard")
        assert actor.kill("loop")
        assert actor.wait(60) == ExitCode.CRASHED, actor.log_text()
    assert guard is not None
    assert is_gone(guard)
    assert json.loads((config.spool / "run" / FAULT_FILE).read_text())["code"] == "loop_gone"
    assert actor.log_text().count("event=started process=loop") == 1
    assert [t.state for t in spooled(config.spool)] == ["ready"]


def test_no_process_outlives_a_killed_supervisor(tmp_path: Path, double: DoubleProcess) -> None:
    config = dataclasses.replace(make_patient_config(tmp_path, NOBODY, double), trials=None)
    with ActorProcess(tmp_path, config) as actor:
        ring = actor.ring()
        wait_until(lambda: ring.control.num_ticks >= 3, timeout_s=60, what="a trial is on")
        children = [actor.pid_of(name) for name in ("guard", "loop", "recorder")]
        actor.process.kill()
        wait_until(
            lambda: all(p is not None and is_gone(p) for p in children),
            timeout_s=60,
            what="all end",
        )
    assert not (config.spool / "run" / FAULT_FILE).exists()
    assert "the arm is stopped" in actor.log_text()


def test_what_keeps_a_real_arm_from_starting_is_said_in_words(
    tmp_path: Path, double: DoubleProcess
) -> None:
    config = make_patient_config(tmp_path, NOBODY, double)
    with DoubleProcess(tmp_path) as other:
        gone = other.ports
    nobody_there = dataclasses.replace(config, camera=(f"world:127.0.0.1:{gone['feed']}=front",))
    stream = dataclasses.replace(config.cell.stream, first_frame_s=2.0)
    cell = dataclasses.replace(config.cell, stream=stream)
    with ActorProcess(tmp_path, dataclasses.replace(nobody_there, cell=cell)) as actor:
        assert actor.wait(90) == ExitCode.CANNOT_START, actor.log_text()
    assert "camera front gave no frame" in actor.log_text()
    assert not (config.spool / "run" / FAULT_FILE).exists()

    write_limits(tmp_path, other)
    with ActorProcess(tmp_path, config) as actor:
        assert actor.wait(90) == ExitCode.CANNOT_START, actor.log_text()
    assert "the arm cannot be made ready" in actor.log_text()


def test_the_camera_sees_the_object_come_above_the_target_and_rewards_it(tmp_path: Path) -> None:
    target_m = np.array([0.40, 0.02])
    with contextlib.ExitStack() as stack:
        double = stack.enter_context(DoubleProcess(tmp_path))
        assert double.tell(f"place target {target_m[0]} {target_m[1]} 0.001") == "ok"
        config = make_patient_config(tmp_path, NOBODY, double)
        folder = stack.enter_context(ActorFolder(config.spool))
        assert config.limits is not None
        guard = KeptGuard(folder, config.limits, config.ip)
        stack.callback(guard.stop)
        wait_until(lambda: guard.look() is not None or guard.is_serving, what="the guard serves")
        env = make_env(config, MonotonicClock())
        stack.callback(env.close)
        stack.callback(env.stop)
        for index in (0, 17):  # two opposite corners
            commanded_m = env.reset(seed=0, position_index=index).fields["state"][:2].copy()
            scale_m = np.array(env.spec.action_scale)
            rewards, distances_m = [], []
            for _ in range(NUM_STEPS):
                action = np.clip((target_m - commanded_m) / scale_m, -1.0, 1.0)
                step = env.step(action.astype(np.float32))
                commanded_m += step.applied.executed * scale_m
                rewards.append(step.reward)
                seen_m = step.observation.fields["state"][:2]
                distances_m.append(float(np.linalg.norm(target_m - seen_m)))
            assert rewards[0] == 0.0
            assert distances_m[0] > 0.05
            assert rewards[-3:] == [1.0] * 3, (rewards, distances_m)
            assert distances_m[-1] < 0.01
            env.rest()
