"""`offworld demo`: the whole story in simulation, with real parts only."""

from __future__ import annotations

import signal
from collections.abc import Sequence

from services import config, console, demo_seeds
from services.demo import Demo
from services.demo_config import CONFIGS, DemoConfig
from services.demo_result import DemoResult
from services.process import ExitCode, interrupt


def main(argv: Sequence[str]) -> int:
    """Runs one demo, or several seeds and their summary."""
    default = config.build_file(DemoConfig, CONFIGS / "demo.toml")
    settings = config.load(DemoConfig, argv, prog="offworld demo", default=default)
    # Both end a demo alike: everything it started is stopped first. SIGINT is taken by name, since
    # a shell without job control has its background commands ignore it.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, interrupt)
    if settings.seeds:
        settings.out.mkdir(parents=True, exist_ok=True)
        results = demo_seeds.run_seeds(settings, run)
        summary = demo_seeds.summarise(results)
        path = demo_seeds.save_summary(summary, settings.out)
        if settings.json:
            console.emit_json(summary)
        else:
            demo_seeds.show_summary(results, summary)
            console.say(f"summary: {path}")
        return ExitCode.DONE
    result = run(settings)
    if settings.json:
        console.emit_json(result.to_json())
    else:
        _tell(result, settings)
    return ExitCode.DONE


def run(settings: DemoConfig) -> DemoResult:
    """Runs one demo and writes its report."""
    if not settings.json:
        console.say(
            f"offworld demo in {settings.out}, seed {settings.seed}: offline trials, pretraining, "
            f"{settings.num_positions} evaluation trials, {settings.num_online_trials} online "
            "trials, evaluation again, and a control. No GPU and no robot are needed."
        )
    result = Demo(settings).run()
    if not settings.json:
        console.say("drawing the report")
    from services.demo_report import report_of

    report_of(settings.out)
    return result


def _tell(result: DemoResult, settings: DemoConfig) -> None:
    minutes = sum(result.seconds.values()) / 60
    for name, evaluation in (
        ("before", result.zero_shot),
        (f"after {len(result.online)} trials", result.after),
        ("control, offline data alone", result.control),
    ):
        console.say(f"{name:<28}  {evaluation.rate}")
    console.say(
        f"{minutes:.1f} minutes, {result.peak_memory_bytes / 2**30:.2f} GiB of memory at most"
    )
    console.say(f"report: {settings.out / 'report.html'}")
    console.say(f"trials: offworld trials list --store {settings.out / 'store'} --source online")
    console.say(
        "on a GPU box: offworld learner --config deploy/configs/xarm-reach-paper.toml "
        "--listen 0.0.0.0:7443 --token-file FILE"
    )
