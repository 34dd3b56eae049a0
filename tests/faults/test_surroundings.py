"""A server in bad surroundings: logs that nobody takes, hang-ups, an odd locale."""

import fcntl
import os
import pty
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from tests.servers import ONE_WORKER, PATIENCE, SAMPLE, serving, wait_until

SERVE = [sys.executable, "-m", "creemson", "serve", "--port", "0", *ONE_WORKER]


@contextmanager
def started(data_dir, *arguments, **options):
    """Start a server whose standard streams are given; yield the process and its address."""
    command = [*SERVE, "--data-dir", str(data_dir), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options) as process:
        try:
            line = process.stdout.readline()
            yield process, f"http://127.0.0.1:{int(line.split(':')[2].split('/')[0])}"
        finally:
            process.kill()


def dropped_lines(base):
    [line] = [
        line for line in httpx.get(f"{base}/metrics").text.splitlines()
        if line.startswith("creemson_log_lines_dropped_total")
    ]  # fmt: skip
    return float(line.split()[1])


def test_log_that_nobody_reads_or_takes_stops_nothing(tmp_path):
    """A full pipe, and then a closed one, as of `| head -2`: requests are answered, SIGTERM drains, exit 0."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    with started(tmp_path / "data", "--set", "log.level=debug", stderr=writer) as (process, base):
        process.stdout.close()
        for _ in range(
            40
        ):  # each writes lines about the connection and its end: together, more than the pipe takes
            with connect(f"{base.replace('http', 'ws')}/ws", open_timeout=PATIENCE):
                pass
        assert httpx.get(f"{base}/readyz").status_code == 200
        os.close(reader)
        os.close(writer)
        wait_until(lambda: dropped_lines(base) > 0)
        assert httpx.get(f"{base}/readyz").status_code == 200
        process.terminate()
        assert process.wait(PATIENCE) == 0


def test_server_without_standard_streams_runs(tmp_path):
    """As some supervisors start programs: nothing that is printed gets into another file."""
    command = 'exec "$@" <&- 2>&-'
    with subprocess.Popen(
        ["/bin/sh", "-c", command, "sh", *SERVE, "--data-dir", str(tmp_path / "data")], stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        files = {str(Path(f"/proc/{process.pid}/fd/{number}").readlink()) for number in (0, 2)}
        process.terminate()
        assert process.wait(PATIENCE) == 0
    assert files == {os.devnull}


def test_sighup_reloads_the_log_settings(tmp_path):
    """Without TLS, too; a broken file changes nothing."""
    config = tmp_path / "creemson.toml"
    config.write_text("[log]\nlevel = 'error'\n")
    with serving(tmp_path / "data", "--config", str(config)) as server:
        assert "serving" not in server.log.read_text()
        config.write_text("[log]\nlevel = 'debug'\n[limits]\nqueue = 7\n")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "settings reloaded" in server.log.read_text())
        assert '"need_a_restart": ["limits.queue"]' in server.log.read_text()
        assert '"log_level": "debug"' in server.log.read_text()
        config.write_text("[log]\nlevel = 'loud'\n")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "the settings were not reloaded" in server.log.read_text())
        assert "log.level" in server.log.read_text()
        assert httpx.get(f"{server.base}/readyz").status_code == 200


def test_closed_terminal_ends_the_server(tmp_path):
    """SIGHUP of a terminal that is gone is no wish to reload."""
    controller, terminal = pty.openpty()
    command = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    with subprocess.Popen(
        [sys.executable, "-c", command, *SERVE, "--data-dir", str(tmp_path / "data")],
        stdin=terminal, stdout=subprocess.PIPE, stderr=terminal, start_new_session=True,
    ) as process:  # fmt: skip
        os.close(terminal)
        process.stdout.readline()
        os.close(controller)
        try:
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()  # otherwise, the end of the context would wait for a server that goes on


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A server under `nohup`, in a locale without Unicode, on a folder whose name has characters beyond 16 bits."""
    with pytest.MonkeyPatch.context() as patch:
        # What a locale such as ISO-8859-1 does: Python changes the encoding only for the locales C and POSIX.
        for name, value in {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}.items():
            patch.setenv(name, value)
        with serving(tmp_path_factory.mktemp("odd") / "😀", prefix=["nohup"]) as server:
            yield server


def test_file_names_are_utf_8_whatever_the_locale(odd):
    """In the server and in its workers, over WebSocket and HTTP."""
    name = "日本 😀.csv"
    with odd.connect() as client:
        assert client.upload(name, SAMPLE.read_bytes())["type"] == "uploaded"
        result = client.run(filename=name, limit=1)
        assert result["type"] == "result", result
        assert client.download(name)[1] == SAMPLE.read_bytes()
    assert httpx.get(f"{odd.base}/columns/{name}").status_code == 200
    assert [path.name for path in (odd.data_dir / "uploads").iterdir()] == [name]
    assert "Traceback" not in odd.log.read_text()


def test_sighup_is_ignored_under_nohup(odd):
    """It neither drains nor reloads."""
    status = Path(f"/proc/{odd.process.pid}/status").read_text()
    [ignored] = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigIgn")]
    assert ignored & (1 << (signal.SIGHUP - 1))
    odd.process.send_signal(signal.SIGHUP)
    assert httpx.get(f"{odd.base}/readyz").status_code == 200
    assert "reload" not in odd.log.read_text()
