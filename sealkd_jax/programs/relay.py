"""Carries the connections between the processes of a run and JAX's coordinator, to hear first when one breaks.

JAX itself aborts a process that has lost its coordinator, with a C++ stack trace, which Python cannot prevent (jaxlib
0.10), and misses any other process only after a hundred seconds. But the kernel closes the connections of a process as
soon as it dies, however it dies; and keepalive finds out within half a minute that a machine is gone.
"""

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Thread

CONNECT = 10  # seconds; gRPC, which waits behind it, gives up after 20
KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 25_000}  # s, s, times, ms


def relay(listener: socket.socket, target: tuple[str, int], on_end: Callable[[], None]) -> None:
    """Connects whoever comes to `listener` with `target`; threads carry the bytes either way.

    `on_end` is called, in one of them, when a connection that had been made ends. The other side's stays open.
    """

    def carry(source: socket.socket, sink: socket.socket) -> None:
        with source, suppress(OSError):
            while data := source.recv(2**16):
                sink.sendall(data)
        on_end()

    def accept() -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = _connect(target)
                if far is None:
                    near.close()  # it will come again
                    continue
                for source, sink in ((near, far), (far, near)):
                    _keep_alive(source)
                    Thread(target=carry, args=(source, sink), daemon=True).start()

    Thread(target=accept, daemon=True).start()


def _connect(target: tuple[str, int]) -> socket.socket | None:
    """A connection, as soon as somebody listens there; None where nobody does."""
    deadline = time.monotonic() + CONNECT
    while time.monotonic() < deadline:
        with suppress(OSError):
            connection = socket.create_connection(target, CONNECT)
            connection.settimeout(None)
            return connection
        time.sleep(0.1)
    return None


def _keep_alive(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):  # macOS lacks some
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
