from __future__ import annotations

import threading

import pytest

from robot.bounded_calls import BoundedCalls


def test_results_and_errors_come_back_to_the_caller():
    calls = BoundedCalls("test")
    assert [calls.call(lambda n=n: n * n, 20.0) for n in range(200)] == [n * n for n in range(200)]
    with pytest.raises(ZeroDivisionError):
        calls.call(lambda: 1 // 0, 20.0)
    assert calls.call(lambda: "still there", 20.0) == "still there"
    calls.close()


def test_a_call_that_hangs_is_given_up_and_others_are_refused_until_it_ends():
    calls = BoundedCalls("test")
    hanging, late = threading.Event(), threading.Event()
    results: list[str] = []

    def hang() -> str:
        hanging.wait()
        return "late"

    def keep(result: str) -> None:
        results.append(result)
        late.set()

    with pytest.raises(TimeoutError, match="no answer"):
        calls.call(hang, 0.01, on_late=keep)
    with pytest.raises(TimeoutError, match="has not ended"):
        calls.call(lambda: "refused", 20.0)
    assert not calls.wait_until_free(0.0)
    hanging.set()
    assert late.wait(20.0)
    assert results == ["late"]
    assert calls.wait_until_free(20.0)
    assert calls.call(lambda: "free", 20.0) == "free"
    calls.close()
