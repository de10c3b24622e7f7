"""The demo's report: its numbers, its pictures and its video, from made-up trials."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import av
import numpy as np
import pytest

from protos.trial import Source
from services import figures, report
from services.demo_result import (
    DemoResult,
    Evaluation,
    OnlineTrial,
    PositionOutcome,
    ResultUnreadable,
)
from services.run_data import BatchMix
from services.video import PANEL, STRIP, Clip, draw_panel, write_video
from tests.services.trials import make_trial

POSITIONS = 6


def evaluation(successes: int, version: int) -> Evaluation:
    return Evaluation(
        weights_version=version,
        num_updates=100 * version,
        outcomes=tuple(
            PositionOutcome(
                position_index=i,
                x_m=0.3 + 0.02 * i,
                y_m=0.0,
                is_success=i < successes,
                num_steps=4,
                trial_id="t",
            )
            for i in range(POSITIONS)
        ),
    )


@pytest.fixture
def result() -> DemoResult:
    return DemoResult(
        seed=0,
        task="reach <b>",
        num_offline_trials=100,
        num_offline_successes=55,
        recorded_region_m=(0.3, 0.35, -0.1, 0.1),
        variation="distractor",
        table_region_m=(0.3, 0.45, -0.1, 0.1),
        zero_shot=evaluation(1, 1),
        after=evaluation(5, 4),
        control=evaluation(2, 2),
        online=tuple(
            OnlineTrial(
                trial_id=f"t{i}",
                is_success=i > 3,
                num_steps=4,
                total_reward=1.0,
                weights_version=1 + i,
            )
            for i in range(8)
        ),
        seconds={"pretraining": 61.0, "online": 20.0},
        peak_memory_bytes=3 * 2**29,
        peak_resident_bytes=2**31,
        versions={"offworld": "0.1.0"},
        machine="test",
    )


def eval_trials(successes: int) -> dict:
    return {
        i: make_trial(source=Source.EVAL, position_index=i, is_success=i < successes, seed=i)
        for i in range(POSITIONS)
    }


def test_a_result_comes_back_as_it_was_saved(result: DemoResult, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    result.save(path)
    assert DemoResult.load(path) == result
    raw = json.loads(path.read_text())
    assert raw["zero_shot"]["rate"] == pytest.approx(1 / POSITIONS)
    assert raw["after"]["interval_95"][0] < 5 / POSITIONS < raw["after"]["interval_95"][1]
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "not a demo result"), ("{}", "schema"), ('{"schema": 99}', "schema 99, this reads 2")],
)
def test_a_file_that_is_no_result_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(ResultUnreadable, match=words):
        DemoResult.load(path)
    with pytest.raises(ResultUnreadable, match="No such file"):
        DemoResult.load(tmp_path / "absent.json")


def test_the_report_stands_alone_and_tells_the_three_rates(
    result: DemoResult, tmp_path: Path
) -> None:
    before, after = eval_trials(1), eval_trials(5)
    data = report.ReportData(
        trials=[*before.values(), *after.values()],
        before=before,
        after=after,
        mix=BatchMix(num_updates=np.array([0, 100, 200]), online_fraction=np.array([0, 0, 0.5])),
        configs={"learner.toml": "seed = 0\n<script>"},
    )
    page = report.write_report(result, data, tmp_path / "run").read_text()
    assert "1 of 6" in page
    assert "5 of 6" in page
    assert "shaded region only and knew no distractor." in page
    assert "2 of 6" in page
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "reach &lt;b&gt;" in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    names = {p.name for p in (tmp_path / "run").iterdir()}
    assert {"summary.png", "positions.png", "timing.png", "batch_mix.png", "trials.mp4"} <= names
    for encoded in re.findall(r"data:image/png;base64,([^\"]+)", page):
        assert base64.b64decode(encoded).startswith(b"\x89PNG")


def test_a_run_without_successes_or_online_trials_still_gets_its_report(
    result: DemoResult, tmp_path: Path
) -> None:
    poor = DemoResult(
        **{
            **{k: getattr(result, k) for k in result.__dataclass_fields__},
            "online": (),
            "after": evaluation(0, 1),
        }
    )
    data = report.ReportData(
        trials=[],
        before={},
        after={},
        mix=BatchMix(num_updates=np.empty(0), online_fraction=np.empty(0)),
    )
    assert report.write_report(poor, data, tmp_path).exists()


def test_step_times_leave_out_what_nobody_planned() -> None:
    times = report.step_times([make_trial(num_steps=4), make_trial(weights_version=0)])
    assert times.plan_ms == pytest.approx([20.0] * 4)
    assert times.late_ms == pytest.approx([23.0] * 4)
    assert times.period_ms == pytest.approx(100.0)


def test_the_bars_show_the_rates_and_their_intervals(result: DemoResult) -> None:
    axes = figures.draw_success(result).axes[0]
    heights = [patch.get_height() for patch in axes.patches]
    assert heights == pytest.approx([1 / 6, 2 / 6, 5 / 6])
    assert [t.get_text() for t in axes.texts] == ["1 of 6", "2 of 6", "5 of 6"]


def test_the_map_tells_success_by_shape_not_only_by_colour(result: DemoResult) -> None:
    panels = figures.draw_positions(result).axes
    counts = [[len(c.get_offsets()) for c in axes.collections] for axes in panels]
    assert counts == [[1, 5], [2, 4], [5, 1]]


def test_the_video_plays_every_frame_of_the_page_at_the_control_rate(tmp_path: Path) -> None:
    clips = [[Clip(trial=make_trial(num_steps=4), label="before")]]
    path = write_video(tmp_path / "trials.mp4", [clips, clips], hz=10.0)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.average_rate == 10
    assert len(frames) == 2 * (5 + 10)


def test_a_panel_is_framed_in_blue_once_the_reward_was_reached() -> None:
    clip = Clip(trial=make_trial(num_steps=4, is_success=True), label="after")
    edge = [tuple(draw_panel(clip, i)[STRIP + 1, PANEL // 2]) for i in range(6)]
    assert edge[3] != (0, 114, 178)
    assert edge[4] == edge[5] == (0, 114, 178)
