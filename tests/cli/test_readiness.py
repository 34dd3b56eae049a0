"""What systemd is told."""

import socket

from creemson.cli.shared.readiness import notify_ready
from tests.servers import PATIENCE


def test_readiness_is_told_to_an_abstract_socket_too():
    """systemd writes its null byte as @."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.settimeout(PATIENCE)
        systemd.bind("")  # the kernel chooses an abstract address
        notify_ready({"NOTIFY_SOCKET": systemd.getsockname().decode().replace("\0", "@")})
        assert systemd.recv(100) == b"READY=1"


def test_nobody_to_tell_is_no_error(tmp_path):
    """Without systemd, or if its socket is gone."""
    notify_ready({})
    notify_ready({"NOTIFY_SOCKET": str(tmp_path / "gone")})
