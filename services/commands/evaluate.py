"""`offworld eval`: success over the fixed positions, through a learner or from its store."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from robot.sim.config import EVAL_POSITIONS
from robot.sim.env import make_sim_spec
from services import config, console
from services.actor_config import ActorConfig
from services.children import Child, offworld
from services.client import LearnerClient
from services.commands.flags import LearnerFlag, OutputFlags
from services.credentials import security_flags
from services.demo_config import CONFIGS
from services.intervals import Rate
from services.process import CannotStart, ExitCode
from services.trial_feed import committed_trials
from services.trial_log import COLUMNS, TrialLine


@dataclass(frozen=True, kw_only=True)
class EvalFlags(OutputFlags, LearnerFlag):
    """Runs one simulated trial at each fixed position and prints how many succeed.

    With --learner the actor runs them and the learner keeps them (it never trains on them). With
    --store the weights are read from there, and nothing is kept.
    """

    store: Path | None = None
    """Folder of a store, to evaluate without a learner."""

    actor_config: Path = CONFIGS / "demo-actor.toml"
    """The actor's file: the simulated workspace."""
    num_positions: int = len(EVAL_POSITIONS)
    """Fixed positions, from the first."""
    pace: Literal["real", "fast"] = "fast"
    """`fast` lets simulated time pass as quickly as planning allows."""
    seed: int = 0
    """Decides what is left to chance in planning."""
    weights: int | None = None
    """Version of the weights; none is the newest, the only one that a learner offers."""

    def __post_init__(self) -> None:
        if not 1 <= self.num_positions <= len(EVAL_POSITIONS):
            raise ValueError(f"num_positions must be 1 .. {len(EVAL_POSITIONS)}")


def main(argv: Sequence[str]) -> int:
    """Runs the trials and prints the rate."""
    flags = config.load(EvalFlags, argv, prog="offworld eval")
    actor = config.build_file(ActorConfig, flags.actor_config)
    if actor.robot != "sim":
        raise config.ConfigError(f"{flags.actor_config}: eval is for robot sim, not {actor.robot}")
    if flags.store is not None:
        lines, version = _in_this_process(flags, flags.store, actor)
    else:
        lines, version = _through_learner(flags)
    rate = Rate(successes=sum(x.outcome == "success" for x in lines), trials=len(lines))
    if flags.json:
        console.emit_json(
            {
                "weights_version": version,
                "successes": rate.successes,
                "trials": rate.trials,
                "rate": rate.value,
                "interval_95": list(rate.interval),
                "outcomes": [dict(line.to_json()) for line in lines],
            }
        )
    else:
        console.show_table(COLUMNS, [line.cells() for line in lines])
        console.say(f"weights v{version}: success {rate}")
    return ExitCode.DONE


def _in_this_process(
    flags: EvalFlags, store: Path, actor: ActorConfig
) -> tuple[list[TrialLine], int]:
    from services.local_eval import evaluate, load_policy

    policy, version = load_policy(store, flags.weights, make_sim_spec(actor.sim), flags.seed)
    lines: list[TrialLine] = []
    trials = evaluate(
        policy, version, actor.sim, num_positions=flags.num_positions, seed=flags.seed
    )
    with console.bar("evaluation", flags.num_positions, is_quiet=flags.json) as bar:
        for trial in trials:
            lines.append(TrialLine.from_trial(trial, len(lines) + 1))
            bar.update(len(lines), f"{sum(x.outcome == 'success' for x in lines)} successful")
    return lines, version


def _through_learner(flags: EvalFlags) -> tuple[list[TrialLine], int]:
    with closing(LearnerClient(flags.learner, flags)) as client:
        status = client.status()
    offers = status.latest_weights.version
    if not offers or flags.weights not in (None, offers):
        offered = f"weights v{offers}" if offers else "no weights yet"
        wanted = f", not v{flags.weights}; --store can evaluate it" if flags.weights else ""
        raise CannotStart(f"the learner at {flags.learner} offers {offered}{wanted}")
    lines = _run(flags, after=status.ledger_seq)
    return lines, _version_of(lines, flags)


def _version_of(lines: list[TrialLine], flags: EvalFlags) -> int:
    """Returns the version that ran the trials; EvalFailed if they are no evaluation of one."""
    places = sorted(-1 if x.position_index is None else x.position_index for x in lines)
    if places != list(range(flags.num_positions)):
        raise EvalFailed(
            f"expected one trial at each of {flags.num_positions} positions, the learner at "
            f"{flags.learner} has {len(lines)}, at {places}; is another evaluation running, or "
            "was the link down? Look at `offworld trials list --source eval`, and evaluate again"
        )
    versions = {line.weights_version for line in lines}
    # The newest may be another one by the time the actor asks.
    if len(versions) > 1 or flags.weights not in (None, *versions):
        wanted = "of one version" if flags.weights is None else f"v{flags.weights}"
        ran = ", ".join(f"v{version}" for version in sorted(versions))
        raise EvalFailed(f"expected weights {wanted}, the trials ran with {ran}; evaluate again")
    return versions.pop()


def _run(flags: EvalFlags, *, after: int) -> list[TrialLine]:
    """Runs the actor to its end and returns its trials."""
    actor_id = "eval"
    with tempfile.TemporaryDirectory(prefix="offworld-eval-") as folder:
        arguments = offworld(
            "actor",
            *("--config", str(flags.actor_config)),
            *("--learner", flags.learner),
            *security_flags(flags),
            *("--actor-id", actor_id),
            *("--spool", str(Path(folder) / "spool")),
            *("--source", "eval"),
            *("--trials", str(flags.num_positions)),
            *("--pace", flags.pace),
            *("--seed", str(flags.seed)),
            "--exit-when-done",
        )

        def mine() -> list[TrialLine]:
            return [
                line
                for line in committed_trials(flags.learner, after, flags)
                if line.actor == actor_id and line.outcome != "aborted"
            ]

        with (
            Child("actor", arguments, log=Path(folder) / "actor.log") as child,
            console.bar("evaluation", flags.num_positions, is_quiet=flags.json) as bar,
        ):
            while child.wait(0.5) is None:
                lines = mine()
                bar.update(len(lines), f"{sum(x.outcome == 'success' for x in lines)} successful")
            if child.exit_code:
                raise EvalFailed(
                    f"the actor ended with exit code {child.exit_code}:\n{child.log_tail()}"
                )
            lines = mine()
            bar.update(len(lines), f"{sum(x.outcome == 'success' for x in lines)} successful")
        return lines


class EvalFailed(RuntimeError):
    """There is no rate to tell: the actor ended with an error, or its trials are not all there."""
