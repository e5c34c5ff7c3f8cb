"""SIGTERM and Ctrl-C: a program ends when what it is at is saved; a second signal ends it at once.

An epoch is one compiled program, of streamed data some, one a piece of it; between two programs is where a run can be
gone on with. So the first signal lets the epoch finish, or the piece, or the view of precomputed logits, and what was
finished be saved; train.compare, which saves nothing within a cell, ends after the epoch. Where nothing is under way
that could be saved, the first one ends the program too.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAVED = "what is under way is saved"


class Stopped(BaseException):
    """The program was asked to end by the signal of that `number`."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def stopping(agree: Callable[[int], int] = lambda number: number, when: str = SAVED) -> Iterator[Callable[[], None]]:
    """Gives a function to call wherever all is saved: it raises `Stopped` if a signal has come since the beginning.

    At a signal it says on stderr that the program stops `when` that is so. `agree` makes of the number of this
    process's signal, 0 for none, the one that all processes of a run end with.

    Outside of the main thread, which alone may have signals, it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    came: list[int] = []  # as Python hears of them
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def watch() -> None:
        # A thread, because Python calls handlers between its own instructions, and a whole epoch is one of them.
        first = True
        while byte := os.read(reading, 1):
            if byte[0] not in SIGNALS:
                continue
            if not first:
                os._exit(128 + byte[0])
            first = False
            print(f"stopping when {when}; a second signal stops at once", file=sys.stderr, flush=True)

    def check() -> None:
        if number := agree(came[0] if came else 0):
            raise Stopped(number)

    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in SIGNALS}
    descriptor = signal.set_wakeup_fd(writing)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield check
    finally:
        signal.set_wakeup_fd(descriptor)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writing)
        watcher.join()
        os.close(reading)
    check()


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM raises `Stopped` wherever the program is, as Ctrl-C raises KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: object) -> None:
        raise Stopped(number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
