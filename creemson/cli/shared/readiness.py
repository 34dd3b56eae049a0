"""Tells systemd that the server is ready, so that the next one is restarted only then (sd_notify(3))."""

import contextlib
import socket
from collections.abc import Mapping

__all__ = ["notify_ready"]


def notify_ready(environ: Mapping[str, str]) -> None:
    """Say that the server is ready, if systemd waits for that (``Type=notify``).

    Args:
        environ: the environment; ``NOTIFY_SOCKET`` is the address to tell. A leading ``@`` stands for the null byte of
            an abstract socket.
    """
    address = environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = f"\0{address[1:]}"
    # Without an answer, systemd stops the server after TimeoutStartSec and logs why.
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as speaker:
        speaker.connect(address)
        speaker.send(b"READY=1")
