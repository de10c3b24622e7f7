"""The faults of a real arm's path: how each strikes, and what a person mends before the ack."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass

from services.actor_folder import ActorFolder
from tests.faults.cell import Cell
from tests.services.rig import is_gone, wait_until

_CODES = {
    19: "the gripper's line",
    22: "self-collision",
    24: "a joint too fast",
    31: "collision",
    35: "fence",
}
_PROCESSES = ("actor", "guard", "loop", "recorder")


def _nothing(_cell: Cell) -> None: ...


@dataclass(frozen=True, kw_only=True)
class FaultCase:
    """One fault."""

    name: str
    strike: Callable[[Cell], None]
    codes: frozenset[str] = frozenset()
    """Faults that it may latch; none for a fault that latches nothing."""
    after: Callable[[Cell], None] = _nothing
    """What happens next by itself, such as a process that is thawed."""
    mend: Callable[[Cell], None] = _nothing
    """What a person does before the ack."""
    during: str = "trial"
    """`trial` or `reset`."""
    stops: bool = True
    """Whether the arm is to stop for it."""
    is_refused_first: bool = False
    """Whether an ack before `mend` is to be refused."""


def _told(*lines: str) -> Callable[[Cell], None]:
    def do(cell: Cell) -> None:
        for line in lines:
            cell.tell(line)

    return do


def _signalled(name: str, number: int) -> Callable[[Cell], None]:
    return lambda cell: cell.signal(name, number)


def _thaw_loop(cell: Cell) -> None:
    """Lets the frozen loop go on once the guard has latched its silence."""
    wait_until(lambda: cell.latched != "", what="the guard latches a frozen loop")
    cell.signal("loop", signal.SIGCONT)


def _cut_power(cell: Cell) -> None:
    """Ends all that runs on the workstation at once, and what it kept in memory; no byte leaves."""
    cell.tell("unplug")
    pids = [pid for name in _PROCESSES if (pid := cell.pid_of(name)) is not None]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def _power_on(cell: Cell) -> None:
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(ActorFolder(cell.config.spool))
        folder.ring_path.unlink()
    cell.tell("reset")
    cell.tell("plug")


def _wait_for_all(cell: Cell) -> None:
    """Waits until no process is left that could send the arm anything."""
    wait_until(
        lambda: all(p is None or is_gone(p) for p in map(cell.pid_of, _PROCESSES[1:])),
        what="all processes end",
    )


def _camera(trouble: str) -> FaultCase:
    return FaultCase(
        name=f"camera {_CAMERA[trouble]}",
        strike=_told(f"camera {trouble}"),
        codes=frozenset({"camera_stale"}),
        mend=_told("camera well"),
    )


_CAMERA = {
    "freeze": "frozen: the same picture, new numbers",
    "repeat": "repeating its last frame",
    "go_back": "backward: times of before",
    "unplug": "unplugged",
}

_LOST = frozenset({"connection_lost", "sdk_timeout", "arm_silent", "report_silent"})

CASES = (
    FaultCase(
        name="C1, emergency stop",
        strike=_told("estop"),
        codes=frozenset({"controller_c1"}),
        mend=_told("estop release"),
        is_refused_first=True,
    ),
    *(
        FaultCase(
            name=f"C{code}, {meaning}",
            strike=_told(f"error {code}"),
            codes=frozenset({f"controller_c{code}", "gripper_silent"}),
        )
        for code, meaning in _CODES.items()
    ),
    FaultCase(
        name="state 4 set from outside", strike=_told("stop"), codes=frozenset({"state_stopped"})
    ),
    FaultCase(
        name="controller hangs (SDK time-out)",
        strike=_told("mute"),
        codes=frozenset({"sdk_timeout"}),
        mend=_told("unmute"),
        is_refused_first=True,
    ),
    FaultCase(
        name="connection cut (reset)",
        strike=_told("refuse"),
        codes=_LOST,
        mend=_told("accept"),
        is_refused_first=True,
    ),
    FaultCase(
        name="plug pulled (silence, no FIN)",
        strike=_told("unplug"),
        codes=_LOST,
        mend=_told("plug"),
        is_refused_first=True,
    ),
    *(_camera(trouble) for trouble in _CAMERA),
    *(
        case
        for during in ("trial", "reset")
        for case in (
            FaultCase(
                name="loop killed",
                strike=_signalled("loop", signal.SIGKILL),
                codes=frozenset({"loop_gone"}),
                during=during,
            ),
            FaultCase(
                name="loop frozen (SIGSTOP)",
                strike=_signalled("loop", signal.SIGSTOP),
                after=_thaw_loop,
                codes=frozenset({"loop_gone"}),
                during=during,
            ),
            FaultCase(
                name="guard killed",
                strike=_signalled("guard", signal.SIGKILL),
                codes=frozenset({"guard_died"}),
                during=during,
            ),
            FaultCase(
                name="guard frozen (SIGSTOP)",
                strike=_signalled("guard", signal.SIGSTOP),
                codes=frozenset({"guard_died"}),
                during=during,
            ),
        )
    ),
    FaultCase(
        name="supervisor killed",
        strike=_signalled("actor", signal.SIGKILL),
        after=_wait_for_all,
    ),
    FaultCase(name="power of the workstation lost", strike=_cut_power, mend=_power_on),
    FaultCase(
        name="recorder killed",
        strike=_signalled("recorder", signal.SIGKILL),
        stops=False,
    ),
    FaultCase(
        name="network to the learner cut",
        strike=lambda cell: cell.proxy.cut(),
        mend=lambda cell: cell.proxy.heal(),
        stops=False,
    ),
)
