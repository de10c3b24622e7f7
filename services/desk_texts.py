"""What a person at the desk is told, and which keys there are."""

from __future__ import annotations

from services.overseer import Verdict
from services.ring_control import LoopState

PAUSED = "paused: the arm holds; p goes on"
RESUMED = "going on"
TAKEN_OVER = "you steer; i hands back"
HANDED_BACK = "handed back: the model steers"
STOPPED = "stopping the arm"
ENDED = "ending; a trial that is on, or not judged yet, does not count"
TOO_SOON = "too soon: wait a second, then press again"
GONE = "the terminal is gone: ending"
UNPLUGGED = "no gamepad, or it may not be read: its command is zero; plug it in, or use the keys"
PLUGGED = "the gamepad is there"
JUDGED = {
    Verdict.SUCCESS: "judged: success",
    Verdict.FAILURE: "judged: failure",
    Verdict.DISCARD: "discarded",
}
KEYS = """\
  w a s d, arrows   move: away from the base, to its left, back, right; r f  up, down
  c o               close, open the gripper, all the way
  1 .. 5            speed; space ends the motion
  y n               success, failure: ends the trial and stands above the detectors
  x                 discard the trial;  p  pause and go on
  q                 end;  Esc  stop the arm, and keep it stopped"""
PAD = """\
  left stick        move in the plane;  right stick  up, down;  A, cross  close;  B, circle  open
  direction pad     up success, down failure, left discard, right pause
  start             agree, and let a trial begin;  left shoulder  take over, hand back
  back, select      stop the arm, and keep it stopped"""
INTERVENING = """\
  i                 take over, and hand back; every key that moves takes over, too"""


def on(number: int, *, is_steering: bool) -> str:
    """Returns what to tell when a trial has begun."""
    return f"trial {number}: on, {'you steer' if is_steering else 'the model steers'}"


def of_state(state: LoopState, number: int, *, is_success: bool) -> str:
    """Returns what to tell of a new state; empty for nothing.

    Args:
        state: Of the loop.
        number: Of the trial that is on, or was on last.
        is_success: What the reward says of a trial that waits for its verdict.
    """
    if state == LoopState.WAITING_FOR_OPERATOR:
        return f"trial {number + 1}: put the object back, hands out of the cell, press space"
    if state == LoopState.IN_TRIAL:
        return f"trial {number}: the arm goes to its start; space, p or Esc stops it"
    if state == LoopState.WAITING_FOR_VERDICT:
        word = "success" if is_success else "no success"
        return f"trial {number}: {word} by the reward; Enter agrees, y n x overrule"
    if state == LoopState.WAITING_FOR_WEIGHTS:
        return "waiting for weights"
    if state == LoopState.FAULT:
        return "the robot is stopped"
    return ""
