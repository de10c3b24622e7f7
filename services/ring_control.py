"""The control block of the ring: one page of numbers that the actor's three processes share.

Every word is an aligned 8-byte integer with exactly one writer, named below, so that no lock is
needed: numpy stores an aligned int64 with one machine instruction, which x86-64 and arm64 never
tear. A reader may see two words change in another order than they were written in (arm64); each
word is therefore meaningful by itself, and whoever needs two of them tolerates the older one until
the next look. Times are `time.monotonic_ns`, which all processes of a machine share.
"""

from __future__ import annotations

import enum
import time
from typing import overload

import numpy as np

from services.records import WEIGHTS_TAG_BITS, WeightsMark

PAGE_BYTES = 4096
_NUM_WORDS = 256
_TEXT_OFFSET = _NUM_WORDS * 8
_TEXT_BYTES = 1024
_SEQ_BITS = 40


class LinkState(enum.IntEnum):
    """What the recorder knows of the learner."""

    UNKNOWN = 0
    UP = 1
    DOWN = 2


class LoopState(enum.IntEnum):
    """What the loop is doing."""

    STARTING = 0
    WAITING_FOR_WEIGHTS = 1
    WAITING_FOR_ROOM = 2
    BETWEEN_TRIALS = 3
    IN_TRIAL = 4
    DONE = 5
    STOPPED = 6
    FAULT = 7
    WAITING_FOR_OPERATOR = 8
    """A person has to let the next trial begin."""
    WAITING_FOR_VERDICT = 9
    """A person has to say how the trial went."""


class Word:
    """One int64 of the control block, as an attribute."""

    def __init__(self, index: int) -> None:
        self.index = index

    @overload
    def __get__(self, owner: None, kind: type[Control]) -> Word: ...
    @overload
    def __get__(self, owner: Control, kind: type[Control]) -> int: ...
    def __get__(self, owner: Control | None, kind: type[Control]) -> Word | int:
        return self if owner is None else int(owner.words[self.index])

    def __set__(self, owner: Control, value: int) -> None:
        owner.words[self.index] = value


class Control:
    """The words and the one text of the control block.

    Args:
        page: The first `PAGE_BYTES` of the shared memory. uint8 [4096]
    """

    # Written once by whoever creates the ring; the magic number goes in last.
    magic = Word(0)
    layout_version = Word(1)
    num_slots = Word(2)
    slot_bytes = Word(3)
    spec_bytes = Word(4)

    # The cursors, a cache line each. Head: the loop (or the supervisor once the loop is dead).
    head = Word(16)
    tail = Word(32)
    """The recorder: everything before it is in the spool."""

    # The loop.
    loop_heartbeat_ns = Word(48)
    loop_state = Word(49)
    num_ticks = Word(50)
    num_missed = Word(51)
    """Steps whose plan, or whose command, was not there in time."""
    _used_weights = Word(52)
    num_swaps = Word(53)
    last_swap_ns = Word(54)
    """How long the last change of weights took."""
    num_refused = Word(55)
    """Versions that the loop refused to use."""
    last_refused = Word(56)
    _fault_bytes = Word(57)
    trial_number = Word(58)
    """Trials that a person watched begin, the one that is on included."""
    trial_says = Word(59)
    """What the reward says of the trial that waits for a verdict, a `Verdict`; 0 while none."""

    # The recorder.
    recorder_heartbeat_ns = Word(80)
    link_state = Word(81)
    link_since_ns = Word(82)
    _announced_weights = Word(83)
    unsent_trials = Word(84)
    """Trials in the spool without an acknowledgement, of earlier runs too."""
    is_spool_full = Word(85)
    """1 while the spool has no room for one more trial."""
    _acked = Word(86)
    _trained = Word(87)
    has_trainer_failed = Word(88)
    """1 while the learner says that its trainer has failed."""

    # The supervisor.
    is_stop_requested = Word(112)
    """1 once the loop shall end, in the middle of a trial if need be."""

    # The operator's desk, in the process that owns the terminal.
    operator_beat_ns = Word(120)
    """When the command was last meant."""
    operator_command = Word(121)
    """A packed action while a person steers, else 0 (`services/overseer.py`)."""
    _operator_verdict = Word(122)
    operator_go = Word(123)
    """Number of the newest trial that a person lets begin."""
    is_paused = Word(124)
    """1 while the arm shall hold."""

    def __init__(self, page: np.ndarray) -> None:
        self.words = page[:_TEXT_OFFSET].view(np.int64)
        self._text = page[_TEXT_OFFSET : _TEXT_OFFSET + _TEXT_BYTES]

    @property
    def fault(self) -> str:
        """Code and text of the fault that stopped the loop; empty while there is none."""
        return bytes(self._text[: self._fault_bytes]).decode("utf-8", errors="replace")

    @fault.setter
    def fault(self, text: str) -> None:
        raw = text.encode()[:_TEXT_BYTES]
        self._fault_bytes = 0
        self._text[: len(raw)] = np.frombuffer(raw, np.uint8)
        self._fault_bytes = len(raw)

    @property
    def announced_weights(self) -> WeightsMark:
        """Newest weights that lie verified in the spool's weights folder."""
        return WeightsMark(*_unpack(self._announced_weights, WEIGHTS_TAG_BITS))

    @announced_weights.setter
    def announced_weights(self, mark: WeightsMark) -> None:
        self._announced_weights = _pack(mark.version, mark.tag, WEIGHTS_TAG_BITS)

    @property
    def weights_announced(self) -> int:
        """Version of `announced_weights`; 0 for none."""
        return self.announced_weights.version

    @property
    def used_weights(self) -> WeightsMark:
        """Weights that the loop plans with, or planned with before it died."""
        return WeightsMark(*_unpack(self._used_weights, WEIGHTS_TAG_BITS))

    @used_weights.setter
    def used_weights(self, mark: WeightsMark) -> None:
        self._used_weights = _pack(mark.version, mark.tag, WEIGHTS_TAG_BITS)

    @property
    def weights_in_use(self) -> int:
        """Version of `used_weights`; 0 for none."""
        return self.used_weights.version

    @property
    def acked(self) -> tuple[int, int]:
        """Number on this ring of the newest acknowledged trial, and its row of the ledger."""
        return _unpack(self._acked, _SEQ_BITS)

    def set_acked(self, number: int, ledger_seq: int) -> None:
        """Says which trial has been acknowledged as which row."""
        self._acked = _pack(number, ledger_seq, _SEQ_BITS)

    @property
    def trained(self) -> tuple[int, int]:
        """A version of the weights, and the row of the ledger up to which nothing comes after it.

        (0, 0) while the learner has not said so.
        """
        return _unpack(self._trained, _SEQ_BITS)

    def set_trained(self, version: int, ledger_seq: int) -> None:
        """Says that weights of `version` are all that comes of the ledger up to a row."""
        self._trained = _pack(version, ledger_seq, _SEQ_BITS)

    @property
    def operator_verdict(self) -> tuple[int, int]:
        """Number of the trial that a person has judged, and the `Verdict`; (0, 0) for none."""
        return _unpack(self._operator_verdict, _SEQ_BITS)

    def set_operator_verdict(self, number: int, verdict: int) -> None:
        """Says what a person says of a trial."""
        self._operator_verdict = _pack(number, verdict, _SEQ_BITS)

    def set_link(self, state: LinkState) -> None:
        """Says whether the learner answers; the time of the last change is kept."""
        if self.link_state != state:
            self.link_since_ns = time.monotonic_ns()
            self.link_state = state


def _pack(high: int, low: int, low_bits: int) -> int:
    """Returns two numbers as one word, so that a reader never sees one without the other.

    What is negative becomes 0, and what is too large the largest that fits.
    """
    most_high, most_low = (1 << (63 - low_bits)) - 1, (1 << low_bits) - 1
    return min(max(high, 0), most_high) << low_bits | min(max(low, 0), most_low)


def _unpack(word: int, low_bits: int) -> tuple[int, int]:
    return word >> low_bits, word & ((1 << low_bits) - 1)
