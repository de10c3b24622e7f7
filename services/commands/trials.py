"""`offworld trials list|watch|show|verify`: look at trials and check them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from learner.store import TrialStore
from services import config, console, trial_log, trial_table
from services.commands.flags import DEFAULT_STORE, OutputFlags, Positional, SourceFlags
from services.process import ExitCode
from services.trial_log import TrialLine


@dataclass(frozen=True, kw_only=True)
class ListFlags(OutputFlags, SourceFlags):
    """Lists committed trials, oldest first."""

    source: str | None = None
    """Only `offline`, `online` or `eval` trials."""
    outcome: str | None = None
    """Only `success`, `failure` or `aborted` trials."""
    last: int | None = None
    """Only the newest so many."""


@dataclass(frozen=True, kw_only=True)
class ShowFlags(OutputFlags):
    """Prints one trial of a store, step by step; times are ms since its first tick."""

    trial: Positional[str]
    """Id of the trial, or how it begins or ends."""
    store: Path = DEFAULT_STORE
    """Folder of the store."""


@dataclass(frozen=True, kw_only=True)
class VerifyFlags(OutputFlags):
    """Reads every trial back and compares ledger, groups and digests, and a spool if given."""

    store: Path = DEFAULT_STORE
    """Folder of the store."""
    spool: Path | None = None
    """Folder of an actor's spool that delivered to this store."""


class NoSuchTrial(LookupError):
    """No committed trial, or more than one, has that id."""


def main(argv: Sequence[str]) -> int:
    """Runs one verb."""
    verb, *rest = argv
    prog = f"offworld trials {verb}"
    if verb == "list":
        return list_trials(config.load(ListFlags, rest, prog=prog))
    if verb == "show":
        return show(config.load(ShowFlags, rest, prog=prog))
    if verb == "verify":
        return verify(config.load(VerifyFlags, rest, prog=prog))
    from services.commands.trials_watch import WatchFlags, watch

    return watch(config.load(WatchFlags, rest, prog=prog))


def list_trials(flags: ListFlags) -> int:
    """Prints one line a committed trial."""
    lines = trial_log.select(
        _lines(flags), source=flags.source, outcome=flags.outcome, limit=flags.last
    )
    if flags.json:
        for line in lines:
            console.emit_json(line.to_json())
    elif not lines:
        console.say("no trials")
    else:
        console.show_table(trial_log.COLUMNS, [line.cells() for line in lines])
    return ExitCode.DONE


def show(flags: ShowFlags) -> int:
    """Prints where one trial comes from and what happened when."""
    store = TrialStore.open(flags.store, read_only=True)
    try:
        trial_id = _find(store, flags.trial)
        trial = store.load(trial_id)
        row = store.ledger.get(trial_id)
        assert row is not None
    except NoSuchTrial as error:
        console.complain(f"offworld: {console.safe(error)}")
        return ExitCode.BAD_DATA
    finally:
        store.close()
    rows = trial_table.step_rows(trial)
    if flags.json:
        console.emit_json({"header": trial.header(), "digest": row.digest, "steps": rows})
        return ExitCode.DONE
    console.show_fields(trial_table.describe(trial, row.digest))
    console.say("")
    console.show_table(trial_table.STEP_COLUMNS, [trial_table.step_cells(r) for r in rows])
    return ExitCode.DONE


def verify(flags: VerifyFlags) -> int:
    """Compares ledger, groups, digests and a spool; 5 if anything disagrees."""
    from services import spool_audit

    store = TrialStore.open(flags.store, read_only=True)
    try:
        if not flags.json:
            console.say(f"reading all of {flags.store} and comparing digests")
        report = store.fsck()
        problems, counts = list(report.problems), {}
        if flags.spool is not None:
            spool = spool_audit.compare(flags.spool, store.ledger)
            problems += spool.problems
            counts = spool.counts
        num_quarantined = len(store.ledger.quarantined())
    finally:
        store.close()
    if flags.json:
        console.emit_json(
            {
                "num_trials": report.num_trials,
                "num_quarantined": num_quarantined,
                "spool": counts,
                "problems": [{"where": p.where, "what": p.what} for p in problems],
            }
        )
    else:
        for problem in problems:
            console.say(f"{console.safe(problem.where)}: {console.safe(problem.what)}")
        if counts:
            told = ", ".join(f"{count} {state}" for state, count in counts.items())
            console.say(f"spool: {told}")
        console.say(
            f"{report.num_trials} trials, {num_quarantined} in quarantine, {len(problems)} problems"
        )
    return ExitCode.BAD_DATA if problems else ExitCode.DONE


def _lines(flags: SourceFlags) -> Iterator[TrialLine]:
    if flags.learner is None:
        store = TrialStore.open(flags.store or DEFAULT_STORE, read_only=True)
        try:
            yield from [TrialLine.from_row(row) for row in store.iter_rows()]
        finally:
            store.close()
        return
    from services.trial_feed import committed_trials

    yield from committed_trials(flags.learner, security=flags)


def _find(store: TrialStore, text: str) -> str:
    known = [row.trial_id for row in store.iter_rows()]
    if text in known:
        return text
    fitting = [t for t in known if t.startswith(text) or t.endswith(text)]
    if len(fitting) != 1:
        what = "several trials have" if fitting else "no committed trial has"
        raise NoSuchTrial(f"{what} an id that begins or ends with {text!r}")
    return fitting[0]
