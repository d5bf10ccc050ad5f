"""Ctrl-C while a model is diagnosed: it waits for a safe point, so that nothing is left half restored."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Interruption(BaseException):
    """Unwinds a diagnosis; the exception of the user's own SIGINT handler is its cause."""


@contextmanager
def interrupts_deferred() -> Iterator[Callable[[], None]]:
    """Let SIGINT set a flag only, and yield the function that passes it on: call it where it is safe to stop.

    The flag goes to the handler that was there before; what that handler raises, such as `KeyboardInterrupt`, leaves
    this context after everything inside it has unwound. Outside the main thread no handler is touched.
    """
    before: Any = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield lambda: None
        return
    came: list[tuple[Any, ...]] = []

    def pass_on() -> None:
        if came:
            arguments = came[-1]
            came.clear()  # several are one
            try:
                before(*arguments)
            except BaseException as error:  # wrapped, since probes go on after an Exception
                raise Interruption from error

    signal.signal(signal.SIGINT, lambda *arguments: came.append(arguments))
    try:
        yield pass_on
    except Interruption as interruption:
        raise interruption.__cause__ or interruption from None
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            before(*came[-1])
