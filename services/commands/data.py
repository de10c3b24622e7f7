"""`offworld data make|stats|fsck|score`: the data a learner starts from, and its rewards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from learner.store import TrialStore
from robot.sim.offline import OfflineDataConfig, make_offline_trials
from services import config, console
from services.commands.flags import DEFAULT_STORE, OutputFlags
from services.intervals import Rate
from services.process import ExitCode


@dataclass(frozen=True, kw_only=True)
class MakeConfig(OutputFlags):
    """Records trials of the scripted expert in simulation and commits them to a store."""

    store: Path = DEFAULT_STORE
    """Folder of the store; made if it is not there."""
    seed: int = 0
    """Decides every trial."""
    offline: OfflineDataConfig = field(default_factory=OfflineDataConfig)


@dataclass(frozen=True, kw_only=True)
class StoreFlags(OutputFlags):
    """A store on this machine."""

    store: Path = DEFAULT_STORE
    """Folder of the store."""


def main(argv: Sequence[str]) -> int:
    """Runs one verb."""
    verb, *rest = argv
    if verb == "make":
        return make(config.load(MakeConfig, rest, prog="offworld data make"))
    if verb == "score":
        from services.commands import score_detectors

        return score_detectors.main(rest)
    flags = config.load(StoreFlags, rest, prog=f"offworld data {verb}")
    return stats(flags) if verb == "stats" else fsck(flags)


def make(settings: MakeConfig) -> int:
    """Records and commits offline trials, each durable before the next."""
    num_expert, num_exploratory = settings.offline.counts
    total = num_expert + num_exploratory
    store = TrialStore.open(settings.store)
    num_success = num_new = 0
    try:
        trials = make_offline_trials(settings.offline, settings.seed)
        with console.bar("offline trials", total, is_quiet=settings.json) as bar:
            for number, trial in enumerate(trials, start=1):
                num_new += not store.commit(trial).is_duplicate
                num_success += trial.is_success
                bar.update(number, f"{num_success} successful")
    finally:
        store.close()
    answer = {"store": str(settings.store), "num_trials": num_new, "num_success": num_success}
    if settings.json:
        console.emit_json(answer)
    else:
        console.say(f"{num_new} trials committed to {settings.store}, {num_success} successful")
    return ExitCode.DONE


def stats(flags: StoreFlags) -> int:
    """Prints counts of what is committed."""
    store = TrialStore.open(flags.store, read_only=True)
    try:
        found = store.stats()
    finally:
        store.close()
    if flags.json:
        console.emit_json(
            {
                "num_trials": found.num_trials,
                "num_success": found.num_success,
                "num_aborted": found.num_aborted,
                "num_steps": found.num_steps,
                "num_quarantined": found.num_quarantined,
                "last_seq": found.last_seq,
            }
        )
        return ExitCode.DONE
    rows = [
        (source, count, Rate(successes=found.num_success[source], trials=count))
        for source, count in found.num_trials.items()
    ]
    console.show_table(("source", ">trials", "success"), rows)
    console.say(
        f"{found.num_steps} steps, {found.num_aborted} trials aborted, "
        f"{found.num_quarantined} in quarantine"
    )
    return ExitCode.DONE


def fsck(flags: StoreFlags) -> int:
    """Reads every committed trial back and compares it with its digests; 5 if one differs."""
    store = TrialStore.open(flags.store, read_only=True)
    try:
        if not flags.json:
            console.say(f"reading all of {flags.store} and comparing digests")
        report = store.fsck()
    finally:
        store.close()
    if flags.json:
        problems = [{"where": p.where, "what": p.what} for p in report.problems]
        console.emit_json({"num_trials": report.num_trials, "problems": problems})
    else:
        for problem in report.problems:
            console.say(f"{console.safe(problem.where)}: {console.safe(problem.what)}")
        console.say(f"{report.num_trials} trials read, {len(report.problems)} problems")
    return ExitCode.BAD_DATA if report.problems else ExitCode.DONE
