"""`offworld data score`: detectors against the simulator's truth, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from robot.calibration import Calibration
from robot.detectors import draw
from robot.detectors.make import make_detector
from robot.sim.config import VARIATIONS, SimConfig
from robot.sim.scoring import LEVELS, Behaviour, Judged, Tally, judge_trials
from services import config, console
from services.commands.flags import OutputFlags
from services.process import ExitCode

BEHAVIOURS: tuple[Behaviour, ...] = ("expert", "exploratory")


@dataclass(frozen=True, kw_only=True)
class ScoreConfig(OutputFlags):
    """Judges simulated trials by the detector and by the truth, and compares."""

    calibration: Path = Path("runs/calibration/calibration.toml")
    """File of `offworld calibrate` for the same task."""
    sim: SimConfig = field(default_factory=SimConfig)
    """Which workspace; `variation` is left to `variations`."""
    variations: tuple[str, ...] = ("none",)
    """Of the task, each scored by itself."""
    trials: int = 25
    """Trials of each behaviour in each variation."""
    seed: int = 0
    """Decides every trial."""
    picture: Path | None = None
    """Where to write a picture of frames the detector got wrong; none writes none."""
    max_pictured: int = 12
    """Frames in the picture."""
    min_agreement: float = 0.97
    """The exit code is 5 where a row agrees in less than this part of its frames, or of its trials'
    outcomes."""

    def __post_init__(self) -> None:
        if self.trials < 1 or self.max_pictured < 1:
            raise ValueError("trials and max_pictured must be at least 1")
        if not 0.0 <= self.min_agreement <= 1.0:
            raise ValueError(f"min_agreement must be 0 .. 1, got {self.min_agreement}")
        known = VARIATIONS[self.sim.task]
        if not self.variations or not set(self.variations) <= set(known):
            raise ValueError(
                f"variations of {self.sim.task}: expected one or more of {', '.join(known)}, got "
                f"{', '.join(self.variations) or 'none at all'}"
            )


@dataclass(frozen=True, kw_only=True)
class Row:
    """One variation with one behaviour."""

    variation: str
    behaviour: Behaviour
    tally: Tally
    wrong: Sequence[Judged]


def main(argv: Sequence[str]) -> int:
    """Scores, prints the confusion tables and writes the picture."""
    settings = config.load(ScoreConfig, argv, prog="offworld data score")
    calibration = config.build_file(Calibration, settings.calibration)
    rows = score(settings, calibration)
    if settings.picture is not None:
        draw.save(settings.picture, picture(settings, calibration, rows))
    report(settings, rows)
    is_good = all(
        min(row.tally.agreement, row.tally.trial_agreement) >= settings.min_agreement
        for row in rows
    )
    return ExitCode.DONE if is_good else ExitCode.BAD_DATA


def score(settings: ScoreConfig, calibration: Calibration) -> list[Row]:
    """Runs all trials; a row for each variation and behaviour."""
    rows: list[Row] = []
    for variation in settings.variations:
        sim = replace(settings.sim, variation=variation)
        detector = make_detector(
            sim.task,
            calibration,
            reach_tolerance_m=sim.reach_tolerance_m,
            lift_height_m=sim.lift_height_m,
        )
        for behaviour in BEHAVIOURS:
            tally, wrong = Tally(), list[Judged]()
            for judged in judge_trials(
                sim, detector, behaviour, seed=settings.seed, num_trials=settings.trials
            ):
                tally.add(judged)
                if not judged.is_agreed:
                    wrong.append(judged)
            rows.append(Row(variation=variation, behaviour=behaviour, tally=tally, wrong=wrong))
    return rows


def report(settings: ScoreConfig, rows: Sequence[Row]) -> None:
    """Prints agreement and the confusion table of each row."""
    if settings.json:
        console.emit_json([_answer(row) for row in rows])
        return
    columns = (
        "variation",
        "behaviour",
        ">frames",
        ">agreement",
        ">false 1",
        ">missed 1",
        ">false trials",
        ">missed trials",
        "sure",
    )
    lines = []
    for row in rows:
        tally = row.tally
        lines.append(
            (
                row.variation,
                row.behaviour,
                tally.num_frames,
                f"{100 * tally.agreement:.1f} %",
                tally.num_false_success,
                tally.num_missed_success,
                tally.num_false_trials,
                tally.num_missed_trials,
                _sure(tally),
            )
        )
    console.show_table(columns, lines, title=f"{settings.sim.task}, seed {settings.seed}")
    for row in rows:
        console.show_table(
            ("true reward", *(f">said {level:g}" for level in LEVELS)),
            [(f"{level:g}", *row.tally.counts[k].tolist()) for k, level in enumerate(LEVELS)],
            title=f"{row.variation}, {row.behaviour}",
        )
    console.say(
        f"{settings.trials} trials a row, a success from their first frame of it on; sure: mean "
        "confidence of right verdicts / of wrong ones"
    )


def picture(settings: ScoreConfig, calibration: Calibration, rows: Sequence[Row]) -> np.ndarray:
    """Returns frames the detector got wrong, spread over rows and trials, with what it saw."""
    tiles: list[np.ndarray] = []
    share = -(-settings.max_pictured // len(rows))
    for row in rows:
        one_a_trial = {judged.trial: judged for judged in reversed(row.wrong)}
        chosen = [one_a_trial[trial] for trial in sorted(one_a_trial)]
        chosen += [judged for judged in row.wrong if judged not in chosen]
        for judged in chosen[:share]:
            tiles.append(_tile(calibration, row, judged))
    if not tiles:
        blank = np.full((40, 448, 3), 255, np.uint8)
        return draw.caption(blank, ["No frame was judged wrongly."])
    title = [
        f"{settings.sim.task}: frames the detector got wrong (seed {settings.seed}). Yellow: the "
        "object as seen or carried; cyan: the target as remembered;",
        "magenta: the truth, which the detector never sees; white: the workspace on the table.",
    ]
    return draw.caption(draw.tiled(tiles[: settings.max_pictured], 3), title)


def _tile(calibration: Calibration, row: Row, judged: Judged) -> np.ndarray:
    truth = judged.observation.truth
    assert truth is not None
    middle_m = truth.get("object_m")
    if middle_m is None:
        middle_m = truth["held_m"] + np.array([0.0, 0.0, calibration.held.height_m / 2])
    frame, _ = judged.observation.seen_by(calibration.camera_name)
    drawn = draw.draw_verdict(
        frame.image,
        calibration,
        judged.verdict,
        true_held_m=middle_m,
        true_target_m=truth.get("target_m"),
    )
    said = judged.verdict
    if "target_m" in truth:
        gap_m = float(np.hypot(*(truth["held_m"] - truth["target_m"])[:2]))
        really = f"really {1e3 * gap_m:.1f} mm"
    else:
        really = f"really lifted {1e3 * truth['lift_m']:.0f} mm, grasped {truth['is_grasped']}"
    return draw.caption(
        drawn,
        [
            f"{row.variation}, {row.behaviour} trial {judged.trial} step {judged.step}",
            f"said {said.reward:g}, true {judged.true_reward:g}, confidence {said.confidence:.2f}",
            said.reason,
            really,
        ],
    )


def _sure(tally: Tally) -> str:
    means = (tally.mean_confidence(is_agreed=True), tally.mean_confidence(is_agreed=False))
    return " / ".join("-" if mean is None else f"{mean:.2f}" for mean in means)


def _answer(row: Row) -> dict[str, object]:
    return {
        "variation": row.variation,
        "behaviour": row.behaviour,
        "num_frames": row.tally.num_frames,
        "agreement": row.tally.agreement,
        "num_trials": row.tally.num_trials,
        "false_trials": row.tally.num_false_trials,
        "missed_trials": row.tally.num_missed_trials,
        "counts": row.tally.counts.tolist(),
        "confidence_right": row.tally.mean_confidence(is_agreed=True),
        "confidence_wrong": row.tally.mean_confidence(is_agreed=False),
    }
