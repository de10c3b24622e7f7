"""`offworld`: the table of commands. Each one is loaded only when it is called.

Exit codes: 0 done or asked to stop, 1 crashed, 2 wrong usage, 3 cannot start or refused, 4 the
other side does not answer, 5 the data is not what it should be.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.process import ExitCode


@dataclass(frozen=True, kw_only=True)
class Command:
    """One line of the table."""

    module: str
    """Has `main(argv) -> int`."""
    summary: str
    verbs: Mapping[str, str] | None = None
    """What each verb does; the verb is the first argument."""
    others: Mapping[str, Command] = field(default_factory=dict)
    """Commands of their own, by the first argument; with any other one it is this command."""


COMMANDS: Mapping[str, Command] = {
    "demo": Command(
        module="services.commands.demo",
        summary="The whole story in simulation: pretrain, 20 trials, before and after, a report.",
    ),
    "learner": Command(
        module="services.learner",
        summary="Run the learner on the GPU box: takes trials in, trains, hands weights out.",
    ),
    "actor": Command(
        module="services.actor",
        summary="Run the robot actor on the arm's workstation; --robot sim needs no arm.",
        others={
            "ack": Command(
                module="services.commands.ack",
                summary="Clear the fault that keeps an arm stopped, once its cause is gone.",
            ),
            "stop": Command(
                module="services.commands.stop",
                summary="Stop the arm, and keep it stopped.",
            ),
            "status": Command(
                module="services.commands.actor_status",
                summary="How the actor of this machine is, without a learner; 0 if all is well.",
            ),
        },
    ),
    "trials": Command(
        module="services.commands.trials",
        summary="Look at trials, in a store or through a learner.",
        verbs={
            "list": "what has been committed",
            "watch": "follow trials and live steps as they come",
            "show": "one trial, step by step",
            "verify": "ledger, stored trials, digests (and a spool) agree",
        },
    ),
    "data": Command(
        module="services.commands.data",
        summary="Make and check the data a learner starts from.",
        verbs={
            "make": "record offline trials of the scripted expert in simulation",
            "stats": "counts by source and outcome",
            "fsck": "read everything back and compare it with its digests",
            "score": "detectors from the camera against the simulator's truth",
        },
    ),
    "record": Command(
        module="services.commands.record",
        summary="Record trials that a person steers, by keyboard or gamepad; --robot sim or xarm7.",
    ),
    "calibrate": Command(
        module="services.commands.calibrate",
        summary="Find camera pose and colours by carrying an object; --robot sim or xarm7.",
    ),
    "eval": Command(
        module="services.commands.evaluate",
        summary="Success over the fixed positions, in simulation, with a 95 % interval.",
    ),
    "status": Command(
        module="services.commands.status",
        summary="How a learner, its trainer and its actors are.",
    ),
    "doctor": Command(
        module="services.commands.doctor",
        summary="Measure this machine: what works, and the control rate it can honestly keep.",
    ),
}

# What a person can do something about, by class: the message is enough, a traceback is not needed.
EXPECTED: Mapping[str, ExitCode] = {
    "services.config.ConfigError": ExitCode.CANNOT_START,
    "services.process.CannotStart": ExitCode.CANNOT_START,
    "services.client.LearnerRefused": ExitCode.CANNOT_START,
    "protos.trial.SpecMismatch": ExitCode.CANNOT_START,
    "services.terminal.NotATerminal": ExitCode.CANNOT_START,
    "learner.durable.StoreLocked": ExitCode.CANNOT_START,
    "learner.ledger.StoreVersionMismatch": ExitCode.CANNOT_START,
    "services.client.AccessDenied": ExitCode.CANNOT_START,
    "services.client.LearnerUnavailable": ExitCode.PEER_UNREACHABLE,
    "services.guard_client.GuardUnreachable": ExitCode.PEER_UNREACHABLE,
    "learner.layout.StoreNotFound": ExitCode.BAD_DATA,
    "learner.ledger.LedgerCorrupt": ExitCode.BAD_DATA,
    "learner.durable.StoreFull": ExitCode.BAD_DATA,
    "learner.zarr_group.TrialCorrupt": ExitCode.BAD_DATA,
    "learner.weights.WeightsCorrupt": ExitCode.BAD_DATA,
    "learner.weights.WeightsNotFinite": ExitCode.BAD_DATA,
    "services.demo_result.ResultUnreadable": ExitCode.BAD_DATA,
    "services.spool_db.SpoolCorrupt": ExitCode.BAD_DATA,
    "services.spool_db.SpoolVersionMismatch": ExitCode.CANNOT_START,
    "services.demo_stage.DemoFailed": ExitCode.CRASHED,
    "services.commands.evaluate.EvalFailed": ExitCode.CRASHED,
    "robot.camera_model.CalibrationError": ExitCode.CANNOT_START,
    "robot.interfaces.RobotFault": ExitCode.CRASHED,
}

# Parts of offworld that a machine may lack, by the extra that brings them.
OPTIONAL_MODULES = frozenset({"mujoco", "cv2", "ray", "zarr", "matplotlib", "av", "PIL"})


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line and returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        _say(usage())
        return ExitCode.DONE if arguments else ExitCode.USAGE
    if arguments[0] in {"-V", "--version", "version"}:
        _say(f"offworld {version()}")
        return ExitCode.DONE
    name, *rest = arguments
    command = COMMANDS.get(name)
    if command is None:
        return _wrong(f"there is no command {name!r}", COMMANDS)
    if rest and rest[0] in command.others:
        command = command.others[rest.pop(0)]
    if command.verbs is not None:
        if not rest or rest[0] in {"-h", "--help"}:
            _say(verbs_usage(name, command))
            return ExitCode.DONE if rest else ExitCode.USAGE
        if rest[0] not in command.verbs:
            return _wrong(f"offworld {name} has no {rest[0]!r}", command.verbs)
    return run(command.module, rest)


def run(module: str, argv: Sequence[str]) -> int:
    """Loads a command's module and runs it; the one broad handler of the command line."""
    try:
        return int(importlib.import_module(module).main(list(argv)))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output went away, as `head` does. Python would complain once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.DONE
    except Exception as error:  # noqa: BLE001 - this is `main`
        code = expected_code(error)
        if code is None:
            traceback.print_exc()
            return ExitCode.CRASHED
        from services import console

        console.complain(f"offworld: {console.safe_lines(error)}")
        return code


def expected_code(error: BaseException) -> int | None:
    """Returns the exit code of an error whose message is all that is needed; None for a crash."""
    for cls in type(error).__mro__:
        code = EXPECTED.get(f"{cls.__module__}.{cls.__qualname__}")
        if code is not None:
            return int(code)
    if isinstance(error, ModuleNotFoundError) and error.name in OPTIONAL_MODULES:
        return ExitCode.CANNOT_START
    if isinstance(error, ImportError) and error.name is None:
        return ExitCode.CANNOT_START  # raised by our code, in words: rendering does not work
    return None


def usage() -> str:
    """Returns the help of `offworld` itself."""
    lines = [
        "offworld: offline world models, finetuned on real robots.",
        "",
        "usage: offworld COMMAND [options]        offworld COMMAND --help",
        "",
    ]
    for name, command in COMMANDS.items():
        verbs = f" {'|'.join(command.verbs)}" if command.verbs else ""
        lines += [f"  {name}{verbs}", f"      {command.summary}"]
        for word, other in command.others.items():
            lines += [f"  {name} {word}", f"      {other.summary}"]
    return "\n".join([*lines, "", "Start with `offworld demo`. No robot or GPU is needed for it."])


def verbs_usage(name: str, command: Command) -> str:
    """Returns the help of a command that has verbs."""
    assert command.verbs is not None
    lines = [f"usage: offworld {name} VERB [options]", "", command.summary, ""]
    width = max(len(v) for v in command.verbs)
    return "\n".join(lines + [f"  {v:<{width}}  {text}" for v, text in command.verbs.items()])


def version() -> str:
    """Returns the installed version of offworld."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("offworld")
    except PackageNotFoundError:
        return "unknown (not installed)"


def _wrong(text: str, known: Mapping[str, object]) -> int:
    from services import console

    console.complain(f"offworld: {console.safe(text)}; there are {', '.join(known)}")
    return ExitCode.USAGE


def _say(text: str) -> None:
    from services import console

    console.say(text)


if __name__ == "__main__":
    raise SystemExit(main())
