"""The log feed: committed trials from the ledger, then live events, to any number of readers.

Live events sit in one bounded ring in memory. A reader that falls behind is told how many it
missed; the committed trials it always gets, all of them, in order. A reader that does not read
costs a file descriptor and the flow-control window, nothing that grows.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import Executor

from learner.ledger import Ledger
from protos import learner_pb2 as pb
from services.delivery import committed_trial
from services.pulse import Pulse, Waker, wait_for_any

_LOOK_AGAIN_S = 1.0
_PAGE = 256


class LiveEvents:
    """The newest live events, numbered from 1 within one epoch, a run of this process."""

    def __init__(self, capacity: int, *, epoch: str | None = None) -> None:
        self.epoch = epoch or uuid.uuid4().hex
        self.added = Waker()
        self._events: deque[pb.LiveEvent] = deque(maxlen=capacity)
        self._last = 0

    @property
    def last_offset(self) -> int:
        """Number of the newest event; 0 before the first."""
        return self._last

    def add(self, events: Iterable[pb.LiveEvent]) -> None:
        """Appends events; the oldest make way."""
        for event in events:
            self._events.append(event)
            self._last += 1
        self.added.wake()

    def after(self, offset: int) -> tuple[int, list[tuple[int, pb.LiveEvent]]]:
        """Returns how many events after `offset` are gone, and a page of those that are not."""
        first = self._last - len(self._events) + 1
        start = max(offset + 1, first)
        page = [self._events[i - first] for i in range(start, min(start + _PAGE, self._last + 1))]
        return start - offset - 1, list(enumerate(page, start))


class Feed:
    """Serves one reader after another from the ledger and the live events.

    Args:
        ledger: Source of the committed trials.
        live: Source of the live events.
        pulse: Tells when a trial was committed.
        executor: Where the ledger is read.
    """

    def __init__(self, ledger: Ledger, live: LiveEvents, pulse: Pulse, executor: Executor) -> None:
        self._ledger = ledger
        self._live = live
        self._pulse = pulse
        self._executor = executor

    async def trials_after(self, ledger_seq: int, limit: int) -> list[pb.CommittedTrial]:
        """Reads the first `limit` trials committed after `ledger_seq`."""
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, self._trials_after, ledger_seq, limit
        )

    def _trials_after(self, ledger_seq: int, limit: int) -> list[pb.CommittedTrial]:
        return [committed_trial(row) for row in self._ledger.since(ledger_seq, limit)]

    async def tail(self, request: pb.TailLogRequest) -> AsyncIterator[pb.TailLogReply]:
        """Yields what comes after the request's cursor; without an end if it is following."""
        cursor = pb.LogCursor(ledger_seq=request.after.ledger_seq, log_epoch=self._live.epoch)
        if request.after.log_epoch == self._live.epoch:
            cursor.log_offset = min(request.after.log_offset, self._live.last_offset)
        elif not request.after.log_epoch:
            cursor.log_offset = self._live.last_offset  # a new reader: from now on
        is_first = True
        while True:
            news = [self._pulse.changed.next]
            if request.with_live_events:
                news.append(self._live.added.next)
            while is_first or cursor.ledger_seq < self._pulse.beat.ledger_seq:
                page = await self.trials_after(cursor.ledger_seq, _PAGE)
                for trial in page:
                    cursor.ledger_seq = trial.ledger_seq
                    yield pb.TailLogReply(cursor=cursor, trial=trial)
                is_first = len(page) == _PAGE
                if not page:
                    break
            if request.with_live_events:
                for reply in self._live_after(cursor):
                    yield reply
                if cursor.log_offset < self._live.last_offset:
                    continue
            if not request.is_following or self._pulse.is_closing:
                return
            await wait_for_any(news, _LOOK_AGAIN_S)

    def _live_after(self, cursor: pb.LogCursor) -> Iterable[pb.TailLogReply]:
        num_gone, page = self._live.after(cursor.log_offset)
        if num_gone:
            cursor.log_offset += num_gone
            yield pb.TailLogReply(cursor=cursor, dropped=pb.Dropped(num_events=num_gone))
        for offset, event in page:
            cursor.log_offset = offset
            yield pb.TailLogReply(cursor=cursor, live=event)
