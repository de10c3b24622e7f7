"""The pictures of a demo report: drawn from plain numbers, told apart without colour too.

Colours are Okabe and Ito's, which stay distinct for colour-blind readers; what differs in colour
differs in hatch, marker or place as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter

from services.demo_result import DemoResult, Evaluation
from services.intervals import Rate, running_rate
from services.run_data import BatchMix, StepTimes

GREY, ORANGE, BLUE, GREEN, RED, BLACK = (
    "#8c8c8c",
    "#e69f00",
    "#0072b2",
    "#009e73",
    "#d55e00",
    "#222222",
)
PHASES = (
    ("zero_shot", "before\n(offline only)", GREY, ""),
    ("control", "control\n(offline, longer)", ORANGE, "//"),
    ("after", "after {num} trials", BLUE, ""),
)
WINDOW = 5


def save(figure: Figure, path: Path) -> Path:
    """Writes the figure as a PNG and returns its path."""
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=150, facecolor="white")
    return path


def draw_success(result: DemoResult) -> Figure:
    """Draws success before, in the control and after, with Wilson's 95 % intervals."""
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    success_bars(figure.add_subplot(), result)
    return figure


def draw_learning(result: DemoResult) -> Figure:
    """Draws the running success of the online trials between the two evaluations."""
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    learning_curve(figure.add_subplot(), result)
    return figure


def draw_positions(result: DemoResult) -> Figure:
    """Draws each fixed position on the table, before, in the control and after."""
    figure = Figure(figsize=(8.4, 3.4), layout="constrained")
    panels = figure.subplots(1, len(PHASES), sharex=True, sharey=True)
    for axes, (name, title, colour, _) in zip(panels, PHASES, strict=True):
        position_map(axes, getattr(result, name), result, colour)
        axes.set_title(title.format(num=len(result.online)), fontsize=10)
    panels[0].set_ylabel("y [cm]")
    return figure


def draw_timing(times: StepTimes) -> Figure:
    """Draws how long plans took and how late commands were, against the control period."""
    figure = Figure(figsize=(8.4, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    _histogram(left, times.plan_ms, times.period_ms, "plan ready after the frame [ms]", BLUE)
    _histogram(right, times.late_ms, times.period_ms, "command after the tick [ms]", GREEN)
    return figure


def draw_batch_mix(mix: BatchMix) -> Figure:
    """Draws which part of each training batch came from online trials."""
    figure = Figure(figsize=(6.4, 2.8), layout="constrained")
    axes = figure.add_subplot()
    _tidy(axes)
    # Each number is the mean of the batches since the one before.
    updates = np.concatenate([[0], mix.num_updates])
    online = np.concatenate([mix.online_fraction[:1], mix.online_fraction])
    if mix.num_updates.size:
        axes.fill_between(updates, 0, 1, color=GREY, alpha=0.35, linewidth=0, label="offline")
        axes.fill_between(updates, 0, online, color=BLUE, linewidth=0, step="pre", label="online")
        axes.legend(loc="upper left", frameon=True, fontsize=8)
    axes.set(xlabel="updates", ylabel="part of the batch", ylim=(0, 1))
    axes.margins(x=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    return figure


def draw_summary(result: DemoResult, frames: Sequence[np.ndarray]) -> Figure:
    """Draws the one picture that stands for a run: the robot's view, success, positions.

    Args:
        result: What the demo measured.
        frames: Camera images of one trial after finetuning, in order. uint8 [Y, X, 3]
    """
    figure = Figure(figsize=(10.0, 5.4), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(0.38, 0.62), squeeze=False)[:, 0]
    panels = top.subplots(1, max(1, len(frames)), squeeze=False)[0]
    for axes in panels:
        axes.set_axis_off()
    for axes, frame in zip(panels, frames, strict=False):
        axes.imshow(frame, interpolation="bicubic")
    top.suptitle("one trial after finetuning, as the model sees it", fontsize=10)
    left, middle, right = bottom.subplots(1, 3, width_ratios=(1.3, 1, 1))
    success_bars(left, result)
    for axes, (name, title, colour, _) in zip((middle, right), (PHASES[0], PHASES[2]), strict=True):
        position_map(axes, getattr(result, name), result, colour)
        axes.set_title(title.format(num=len(result.online)), fontsize=10)
    middle.set_ylabel("y [cm]")
    return figure


def success_bars(axes: Axes, result: DemoResult) -> None:
    """Draws one bar a phase with its interval and its count."""
    _tidy(axes)
    for place, (name, _, colour, hatch) in enumerate(PHASES):
        rate: Rate = getattr(result, name).rate
        low, high = rate.interval
        axes.bar(place, rate.value, 0.62, color=colour, hatch=hatch, edgecolor="white")
        axes.errorbar(
            place,
            rate.value,
            [[rate.value - low], [high - rate.value]],
            color=BLACK,
            capsize=4,
            linewidth=1.3,
        )
        axes.annotate(
            f"{rate.successes} of {rate.trials}",
            (place, high),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            fontsize=9,
        )
    labels = [label.format(num=len(result.online)) for _, label, _, _ in PHASES]
    axes.set_xticks(range(len(PHASES)), labels, fontsize=8)
    axes.set(ylim=(0, 1.12), ylabel="success")
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))


def learning_curve(axes: Axes, result: DemoResult) -> None:
    """Draws evaluations as points and the online trials as a running mean with its interval."""
    _tidy(axes)
    rates = running_rate([t.is_success for t in result.online], WINDOW)
    numbers = np.arange(1, len(rates) + 1)
    if rates:
        low, high = np.transpose([r.interval for r in rates])
        axes.fill_between(numbers, low, high, color=BLUE, alpha=0.15, linewidth=0)
        axes.plot(
            numbers,
            [r.value for r in rates],
            color=BLUE,
            linewidth=1.8,
            label=f"online trials, running mean of {WINDOW}",
        )
        for is_success, marker in ((True, "^"), (False, "v")):
            at = [
                n for n, t in zip(numbers, result.online, strict=True) if t.is_success is is_success
            ]
            axes.plot(
                at,
                [1.06 if is_success else -0.06] * len(at),
                marker,
                color=BLACK,
                markersize=4,
                clip_on=False,
                label="success of a trial" if is_success else "failure of a trial",
            )
    end = len(rates)
    points = (
        (0, result.zero_shot, GREY, "s", "evaluation before"),
        (end + 0.6, result.control, ORANGE, "D", "control"),
        (end, result.after, BLUE, "o", "evaluation after"),
    )
    for x, evaluation, colour, marker, label in points:
        rate = evaluation.rate
        low_, high_ = rate.interval
        axes.errorbar(
            x,
            rate.value,
            [[rate.value - low_], [high_ - rate.value]],
            fmt=marker,
            color=colour,
            markeredgecolor=BLACK,
            capsize=3,
            markersize=7,
            label=label,
        )
    axes.set(xlabel="online trials", ylabel="success", ylim=(-0.1, 1.1))
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def position_map(axes: Axes, evaluation: Evaluation, result: DemoResult, colour: str) -> None:
    """Draws the table from above: filled circles succeeded, crosses failed."""
    if result.recorded_region_m != result.table_region_m:
        _shade_recorded(axes, result)
    done = [o for o in evaluation.outcomes if o.is_success]
    failed = [o for o in evaluation.outcomes if not o.is_success]
    axes.scatter(
        [100 * o.x_m for o in done],
        [100 * o.y_m for o in done],
        s=55,
        color=colour,
        edgecolor=BLACK,
        linewidth=0.8,
        zorder=3,
    )
    axes.scatter(
        [100 * o.x_m for o in failed],
        [100 * o.y_m for o in failed],
        s=40,
        marker="x",
        color=BLACK,
        linewidth=1.2,
        zorder=3,
    )
    low_x, high_x, low_y, high_y = (100 * v for v in result.table_region_m)
    margin = 0.08 * max(high_x - low_x, high_y - low_y)
    axes.set_xlim(low_x - margin, high_x + margin)
    axes.set_ylim(low_y - margin, high_y + margin)
    axes.set_aspect("equal")
    axes.set_xlabel("x [cm]")
    axes.tick_params(labelsize=8)


def _shade_recorded(axes: Axes, result: DemoResult) -> None:
    x_low, x_high, y_low, y_high = (100 * v for v in result.recorded_region_m)
    axes.add_patch(
        Rectangle(
            (x_low, y_low),
            x_high - x_low,
            y_high - y_low,
            facecolor="#eeeeee",
            edgecolor=GREY,
            linestyle=":",
            linewidth=1,
        )
    )
    axes.annotate(
        "recorded",
        (x_low, y_low),
        xytext=(0, -3),
        textcoords="offset points",
        fontsize=7,
        color="#555555",
        va="top",
    )


def _histogram(
    axes: Axes, values_ms: np.ndarray, period_ms: float, label: str, colour: str
) -> None:
    _tidy(axes)
    axes.set(xlabel=label, ylabel="steps")
    if not values_ms.size:
        axes.text(0.5, 0.5, "no planned steps", transform=axes.transAxes, ha="center")
        return
    end_ms = max(1.05 * period_ms, float(values_ms.max()))
    axes.hist(values_ms, bins=42, range=(0, end_ms), color=colour)
    axes.set_xlim(0, end_ms)
    axes.axvline(period_ms, color=RED, linestyle="--", linewidth=1.2)
    axes.annotate(
        "control period",
        (period_ms, 0.97),
        xycoords=("data", "axes fraction"),
        xytext=(-4, 0),
        textcoords="offset points",
        rotation=90,
        ha="right",
        va="top",
        color=RED,
        fontsize=8,
    )
    p50, p99 = np.percentile(values_ms, [50, 99])
    axes.set_title(f"p50 {p50:.1f} ms, p99 {p99:.1f} ms", fontsize=9)


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
