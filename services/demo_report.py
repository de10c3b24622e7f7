"""Puts the report of a finished demo together from its result and its stores."""

from __future__ import annotations

from pathlib import Path

from protos.trial import Source, Trial
from services.demo_result import FILE_NAME, DemoResult, Evaluation
from services.report import ReportData, write_report
from services.store_view import StoreView


def report_of(out: Path) -> Path:
    """Writes pictures, video and `report.html` beside `result.json`; returns the page's path.

    Args:
        out: Folder of a demo that is done.
    """
    result = DemoResult.load(out / FILE_NAME)
    view = StoreView(out / "store")
    trials = {t.trial_id: t for t in view.load([r for r in view.rows() if _is_planned(r.source)])}
    configs = {
        str(path.relative_to(out)): path.read_text(encoding="utf-8")
        for path in (
            out / "store" / "config.toml",
            out / "spools" / "online-trials" / "run" / "actor.toml",
            out / "configs" / "offline.toml",
        )
        if path.exists()
    }
    data = ReportData(
        # Trials at a real pace only: simulated time stands still while a plan is made.
        trials=[trials[t.trial_id] for t in result.online],
        before=_by_position(result.zero_shot, trials),
        after=_by_position(result.after, trials),
        mix=view.batch_mix(),
        configs=configs,
    )
    return write_report(result, data, out)


def _is_planned(source: Source) -> bool:
    return source is not Source.OFFLINE


def _by_position(evaluation: Evaluation, trials: dict[str, Trial]) -> dict[int, Trial]:
    return {o.position_index: trials[o.trial_id] for o in evaluation.outcomes}
