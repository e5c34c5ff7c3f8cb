"""SIGTERM and Ctrl-C: the first signal ends a program once its work is saved, the second at once.

A run can only be resumed between two compiled programs: an epoch is one of them, or a chunk of streamed data. So the
first signal lets the epoch, the chunk or the view of teacher logits finish and be saved; a comparison, which saves
nothing within a cell, ends after the epoch. If there is nothing to save, the first signal ends the program too.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAVED = "the work in progress is saved"


class Stopped(KeyboardInterrupt):
    """A signal, by its `number`, asked the program to end."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def stopping(agree: Callable[[int], int] = lambda number: number, when: str = SAVED) -> Iterator[Callable[[], None]]:
    """Yield a function to call whenever everything is saved: it raises `Stopped` if a signal has come in the meantime.

    A signal prints on stderr that the program stops once `when` holds. Only the main thread can receive signals; in
    another this does nothing.

    Args:
        agree: combines this process's signal number (0: none) with the others', so that all stop alike.
        when: what the message says.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    received: list[int] = []
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def watch() -> None:
        # In a thread, because Python calls a handler between two of its own instructions, and an epoch is one.
        first = True
        while byte := os.read(reading, 1):
            if byte[0] not in SIGNALS:
                continue
            if not first:
                os._exit(128 + byte[0])
            first = False
            print(f"stopping once {when}; a second signal stops at once", file=sys.stderr, flush=True)

    def check() -> None:
        if number := agree(received[0] if received else 0):
            raise Stopped(number)

    before = {number: signal.signal(number, lambda number, _: received.append(number)) for number in SIGNALS}
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
    """SIGTERM raises `Stopped` wherever the program is, just as Ctrl-C raises KeyboardInterrupt."""
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
