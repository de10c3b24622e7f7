"""The report of a demo run: one HTML file that needs nothing else, its pictures and its video."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from protos.trial import Trial
from services import figures
from services.demo_result import DemoResult, Evaluation
from services.run_data import BatchMix, StepTimes
from services.video import Clip, write_video

CLIPS_PER_PAGE = 3
NUM_SUMMARY_FRAMES = 6
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto;
       padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; } td, th { padding: .15rem .9rem .15rem 0; text-align: left; }
th { border-bottom: 1px solid #999; } img, video { max-width: 100%; }
pre { background: #f4f4f4; padding: .8rem; overflow-x: auto; font-size: 12px; }
figure { margin: 1rem 0; } figcaption { color: #555; font-size: .9rem; }
"""


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """Everything a report shows beside the result's own numbers."""

    trials: Sequence[Trial]
    """Trials whose steps were planned: for the timing."""
    before: Mapping[int, Trial]
    """Evaluation trials before finetuning, by fixed position."""
    after: Mapping[int, Trial]
    """And after it."""
    mix: BatchMix
    configs: Mapping[str, str] = field(default_factory=dict)
    """Text of each configuration, by name."""


def step_times(trials: Iterable[Trial]) -> StepTimes:
    """Collects how long planned steps took: NaN-free, only steps that weights planned."""
    plan, late, period_ms = [np.empty(0)], [np.empty(0)], 100.0
    for trial in trials:
        period_ms = 1e3 / trial.spec.control_hz
        steps = trial.steps
        is_planned = (steps["weights_version"] > 0) & (steps["fallback"] == 0)
        plan.append((steps["t_planned_ns"] - steps["t_observed_ns"])[is_planned] / 1e6)
        late.append((steps["t_commanded_ns"] - steps["t_scheduled_ns"])[is_planned] / 1e6)
    return StepTimes(
        plan_ms=np.concatenate(plan), late_ms=np.concatenate(late), period_ms=period_ms
    )


def write_report(result: DemoResult, data: ReportData, folder: Path) -> Path:
    """Draws pictures and video into `folder` and returns the path of `report.html`."""
    folder.mkdir(parents=True, exist_ok=True)
    times = step_times(data.trials)
    frames = _summary_frames(data)
    pictures = {
        "summary": (figures.draw_summary(result, frames), "The run in one picture."),
        "learning": (
            figures.draw_learning(result),
            f"Online trials as they came (running mean of {figures.WINDOW}, Wilson's 95 % "
            "interval) between the two evaluations.",
        ),
        "positions": (
            figures.draw_positions(result),
            "The table from above: filled circles succeeded, crosses failed. "
            + _what_is_new(result),
        ),
        "timing": (
            figures.draw_timing(times),
            "Planning time and lateness of every step whose plan was there in time.",
        ),
        "batch_mix": (figures.draw_batch_mix(data.mix), "What training batches were made of."),
    }
    parts = [_head(result), _table(result)]
    for name, (figure, caption) in pictures.items():
        path = figures.save(figure, folder / f"{name}.png")
        parts.append(_figure(path, caption))
    figures.save(figures.draw_success(result), folder / "success.png")
    if pages := _pages(data):
        hz = next(iter(data.before.values())).spec.control_hz
        parts.append(_video(write_video(folder / "trials.mp4", pages, hz=hz)))
    parts.append(_details(result, data))
    path = folder / "report.html"
    path.write_text(_page(f"offworld demo, seed {result.seed}", parts), encoding="utf-8")
    return path


def _pages(data: ReportData) -> list[list[list[Clip]]]:
    shared = sorted(data.before.keys() & data.after.keys())
    pages = []
    for start in range(0, len(shared), CLIPS_PER_PAGE):
        group = shared[start : start + CLIPS_PER_PAGE]
        pages.append(
            [
                [Clip(trial=data.before[i], label=f"before, position {i}") for i in group],
                [Clip(trial=data.after[i], label=f"after, position {i}") for i in group],
            ]
        )
    return pages


def _summary_frames(data: ReportData) -> list[np.ndarray]:
    """Picks a trial that failed before and succeeded after, if there is one, and its images."""
    wins = [i for i, trial in data.after.items() if trial.is_success]
    turned = [i for i in wins if i in data.before and not data.before[i].is_success]
    choice = next(iter(turned or wins or list(data.after)), None)
    if choice is None:
        return []
    trial = data.after[choice]
    images = trial.observations[trial.spec.image_fields[0].name]
    reached = np.flatnonzero(trial.steps["reward"] >= 1.0)
    end = int(reached[0]) + 1 if reached.size else trial.num_steps
    return [images[i] for i in np.linspace(0, end, NUM_SUMMARY_FRAMES).round().astype(int)]


def _head(result: DemoResult) -> str:
    rates = (result.zero_shot.rate, result.after.rate, result.control.rate)
    before, after, control = (f"{r.value:.0%}" for r in rates)
    total = sum(result.seconds.values())
    return (
        f"<h1>{html.escape(result.task)}: success {before} before, {after} after "
        f"{len(result.online)} trials</h1>"
        f"<p>The control, the same number of further updates on the offline data alone, reached "
        f"{control}. Seed {result.seed}; {_duration(total)} on {html.escape(result.machine)}; "
        f"peak memory {result.peak_memory_bytes / 2**30:.2f} GiB. "
        f"{result.num_offline_trials} offline trials, {result.num_offline_successes} of them "
        f"successful. {_what_is_new(result)}</p>"
    )


def _what_is_new(result: DemoResult) -> str:
    known = []
    if result.recorded_region_m != result.table_region_m:
        known.append("had their targets in the shaded region only")
    if result.variation != "none":
        known.append(f"knew no {html.escape(result.variation.replace('_', ' '))}")
    return f"Offline trials {' and '.join(known)}." if known else ""


def _table(result: DemoResult) -> str:
    rows: list[tuple[str, Evaluation]] = [
        ("before: pretrained on the offline trials", result.zero_shot),
        (f"after {len(result.online)} online trials", result.after),
        ("control: as many updates, offline trials alone", result.control),
    ]
    cells = "".join(
        f"<tr><td>{label}</td><td>{e.rate.successes} of {e.rate.trials}</td>"
        f"<td>{e.rate.value:.0%}</td>"
        f"<td>{e.rate.interval[0]:.0%} to {e.rate.interval[1]:.0%}</td>"
        f"<td>{e.num_updates}</td><td>v{e.weights_version}</td></tr>"
        for label, e in rows
    )
    return (
        "<table><tr><th></th><th>successes</th><th>rate</th><th>95 % interval</th>"
        f"<th>updates</th><th>weights</th></tr>{cells}</table>"
        "<p>One seed of a few trials is one draw. Wilson's intervals say how little it proves; "
        "<code>make demo-seeds</code> runs several.</p>"
    )


def _figure(path: Path, caption: str) -> str:
    return (
        f'<figure><img alt="{html.escape(path.stem)}" '
        f'src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _video(path: Path) -> str:
    return (
        "<h2>Trials</h2><figure><video controls muted loop "
        f'src="data:video/mp4;base64,{base64.b64encode(path.read_bytes()).decode()}"></video>'
        "<figcaption>The same positions before (top) and after (bottom), in real time. A blue "
        "frame: the reward was reached.</figcaption></figure>"
    )


def _details(result: DemoResult, data: ReportData) -> str:
    phases = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{_duration(seconds)}</td></tr>"
        for name, seconds in result.seconds.items()
    )
    versions = ", ".join(f"{html.escape(k)} {html.escape(v)}" for k, v in result.versions.items())
    configs = "".join(
        f"<h2>{html.escape(name)}</h2><pre>{html.escape(text)}</pre>"
        for name, text in data.configs.items()
    )
    return f"<h2>Time</h2><table>{phases}</table><h2>Versions</h2><p>{versions}</p>{configs}"


def _page(title: str, parts: Sequence[str]) -> str:
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n<body>"
        + "\n".join(parts)
        + "</body></html>\n"
    )


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "unknown"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
