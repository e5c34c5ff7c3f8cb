"""SIGTERM and Ctrl-C: the first signal ends a program once its work is saved, the second at once.

A run can only be resumed between two compiled programs: an epoch is one of them, or a chunk of streamed data. So the
first signal lets the epoch, the chunk or the view of teacher logits finish and be saved; a comparison, which saves
nothing within a cell, ends after the epoch. If there is nothing to save, the first signal ends the program too.

A handler only notes a signal, and a thread acts on it. An exception raised by a handler could be lost: Python calls
handlers between any two instructions, also in callbacks whose exceptions it ignores, as JAX's for garbage collection.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAVED = "the work in progress is saved"
INTERRUPTED = (
    "interrupted; finished work is kept. Run the same command again to continue; add --resume for distill and compare"
)


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
    announced = False

    def act(number: int) -> None:
        nonlocal announced
        if announced:
            os._exit(128 + number)
        announced = True
        print(f"stopping once {when}; a second signal stops at once", file=sys.stderr, flush=True)

    with _on_signal(act) as received:

        def check() -> None:
            if number := agree(received[0] if received else 0):
                raise Stopped(number)

        yield check
    if threading.current_thread() is threading.main_thread():
        check()


@contextmanager
def terminable() -> Iterator[None]:
    """A signal ends the process at once, with a line on stderr; within `stopping`, once its work is saved.

    Files are complete or absent whenever a process ends, so that nothing has to be tidied up.
    """

    def end(number: int) -> None:
        os.write(2, f"{INTERRUPTED}\n".encode())  # stderr, whose lock the main thread may hold
        os._exit(128 + number)

    with _on_signal(end):
        yield


@contextmanager
def _on_signal(act: Callable[[int], None]) -> Iterator[list[int]]:
    """Call `act` with the number of each signal, in a thread; yield the numbers of those that have come."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def watch() -> None:
        # The interpreter writes here at once; it calls a handler after the instruction that runs, such as an epoch.
        while byte := os.read(reading, 1):
            if byte[0] in SIGNALS:
                act(byte[0])

    before = {number: signal.signal(number, lambda number, _: received.append(number)) for number in SIGNALS}
    descriptor = signal.set_wakeup_fd(writing)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield received
    finally:
        signal.set_wakeup_fd(descriptor)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writing)
        watcher.join()
        os.close(reading)
