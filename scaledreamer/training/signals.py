"""SIGTERM and SIGINT as a question that the loop answers between two steps."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from scaledreamer.errors import Interrupted

RESUME_ME = 75  # exit code of a run that was asked to end and can be resumed: EX_TEMPFAIL of sysexits.h


@contextmanager
def ends_before_it_begins() -> Iterator[None]:
    """SIGTERM and SIGINT raise Interrupted where no loop answers them: while data are made and networks are built."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _: FrameType | None) -> None:
        raise Interrupted(f"ended by {signal.Signals(number).name} outside the steps; the same command goes on")

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Asked:
    """Which signal has asked the process to end, if any."""

    def __init__(self) -> None:
        self.by: signal.Signals | None = None

    def hear(self, number: int, _: FrameType | None) -> None:
        """Remember the signal. A second Ctrl-C ends the process at once; more SIGTERMs say nothing new."""
        if self.by is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.by = signal.Signals(number)


@contextmanager
def asked_to_end() -> Iterator[Asked]:
    """Hear SIGTERM and SIGINT instead of dying of them (in the main thread; signals reach no other)."""
    asked = Asked()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.signal(number, asked.hear) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
