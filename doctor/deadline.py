"""One call under a deadline: for what can hang in the kernel or in libc (DNS, a dead mount, a driver)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def within(seconds: float, call: Callable[[], T]) -> T:
    """The result of `call`, which runs in a daemon thread. Raises what it raised, or TimeoutError when it is late.

    A late call is abandoned, not stopped: its thread ends with it, or with the process.
    """
    done = threading.Event()
    outcome: list[T] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            outcome.append(call())
        except BaseException as error:  # noqa: BLE001 - handed to the caller, who is another thread
            failure.append(error)
        done.set()

    threading.Thread(target=work, name="within-deadline", daemon=True).start()
    if not done.wait(max(0.0, seconds)):
        raise TimeoutError(f"no answer within {seconds:.1f} s")
    if failure:
        raise failure[0]
    return outcome[0]
