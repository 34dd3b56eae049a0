"""What log lines look like, and what must not appear in them."""

import io
import json
import logging
from datetime import datetime, timedelta

import pytest
import structlog

from creemson import logs
from creemson.settings import sections


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def _restore():
    levels = {name: logging.getLogger(name).level for name in ("trio-websocket", "trio_websocket")}
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def test_auto_format_without_terminal_is_json():
    """Format `auto` writes one JSON object per line when the stream is not a terminal."""
    stream = io.StringIO()
    logs.configure(sections.Log(), stream)
    logs.get_logger("creemson.processor").info("job started", job="j1", data=b"\x00")
    (line,) = stream.getvalue().splitlines()
    entry = json.loads(line)
    moment = datetime.fromisoformat(entry.pop("timestamp"))
    assert timedelta(0) == moment.utcoffset()
    assert entry == {
        "event": "job started",
        "level": "info",
        "logger_name": "creemson.processor",
        "job": "j1",
        "data": repr(b"\x00"),
    }


def test_auto_format_on_terminal_is_coloured_text():
    """Format `auto` writes coloured text to a terminal and escapes control characters in values."""
    stream = Terminal()
    logs.configure(sections.Log(), stream)
    logs.get_logger("creemson.storage").warning("upload kept", file="a\x1b[2J.csv\nb")
    text = stream.getvalue()
    assert "upload kept" in text
    assert "creemson.storage" in text
    assert "\x1b[" in text
    assert r"'a\x1b[2J.csv\nb'" in text
    assert text.count("\n") == 1


@pytest.mark.parametrize(("chosen", "stream"), [("console", io.StringIO()), ("json", Terminal())])
def test_explicit_format_overrides_terminal_detection(chosen, stream):
    """An explicit format is used whatever the stream is; text outside a terminal has no colours."""
    logs.configure(sections.Log(format=chosen), stream)
    logs.get_logger("x").info("hello")
    text = stream.getvalue()
    assert (chosen == "json") == text.startswith("{")
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("level", "logged"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_events_below_level_are_dropped(level, logged):
    """Events below the configured level are dropped."""
    stream = io.StringIO()
    logs.configure(sections.Log(level=level), stream)
    log = logs.get_logger("x")
    for name in ("debug", "info", "warning", "error"):
        getattr(log, name)("event")
    assert logged == [json.loads(line)["level"] for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize("chosen", ["json", "console"])
def test_traceback_in_log_has_no_local_variables(chosen):
    """A logged traceback is text without the values of variables, which may be secrets."""

    def fail():
        secret = "hunter" + "2"
        raise ValueError(len(secret))

    stream = Terminal()
    logs.configure(sections.Log(format=chosen), stream)
    try:
        fail()
    except ValueError:
        logs.get_logger("x").exception("job failed")
    text = stream.getvalue()
    assert "ValueError: 7" in text
    assert "Traceback" in text
    assert "hunter2" not in text


def test_context_variables_are_in_every_line():
    """Structlog's context variables (a connection's name, say) are in each line."""
    stream = io.StringIO()
    logs.configure(sections.Log(), stream)
    structlog.contextvars.bind_contextvars(connection="c1")
    logs.get_logger("x").info("hello")
    assert json.loads(stream.getvalue())["connection"] == "c1"


def test_logger_made_earlier_uses_latest_configuration():
    """A logger made at import time, before `configure`, uses the latest configuration."""
    log = logs.get_logger("x")
    first, second = io.StringIO(), io.StringIO()
    logs.configure(sections.Log(), first)
    log.info("one")
    logs.configure(sections.Log(), second)
    log.info("two")
    assert json.loads(first.getvalue())["event"] == "one"
    assert json.loads(second.getvalue())["event"] == "two"


def test_default_stream_is_standard_error(capsys):
    """Without a stream, lines go to the current standard error and nothing to standard output."""
    logs.configure(sections.Log())
    logs.get_logger("x").info("hello")
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err)["event"] == "hello"


@pytest.mark.parametrize("name", ["trio-websocket", "trio_websocket"])
def test_websocket_library_logs_errors_only(name, caplog):
    """The library's messages about frames and unexpected events reach no handler, even at level debug."""
    logs.configure(sections.Log(level="debug"))
    with caplog.at_level(logging.DEBUG):
        logging.getLogger(name).debug("received 3 bytes")
        logging.getLogger(name).warning("received unknown event")
        logging.getLogger(name).error("a fault of the library")
    assert caplog.messages == ["a fault of the library"]


def test_flood_of_lines_about_peers_is_bounded(monkeypatch):
    """Errors, lines at level debug and lines about no peer are written all the same."""
    monkeypatch.setattr(logs, "PEER_RATE", 0.0)
    monkeypatch.setattr(logs, "PEER_BURST", 10)
    stream = io.StringIO()
    logs.configure(sections.Log(level="debug"), stream)
    log = logs.get_logger("x").bind(peer="10.0.0.1:1")
    for _ in range(100):
        log.info("connected")
    assert stream.getvalue().count("connected") == 10
    for method in ("debug", "error"):
        getattr(log, method)(f"as {method}")
    logs.get_logger("x").info("of the server")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()[10:]] == [
        "as debug", "as error", "of the server",
    ]  # fmt: skip


def test_lines_left_out_are_counted_in_the_next_one(monkeypatch):
    """When there is room again."""
    now = [0.0]
    monkeypatch.setattr(logs.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(logs, "PEER_BURST", 10)
    stream = io.StringIO()
    logs.configure(sections.Log(), stream)
    for _ in range(100):
        logs.get_logger("x").info("connected", peer="10.0.0.1:1")
    now[0] = 1.0
    logs.get_logger("x").info("closed", peer="10.0.0.1:1")
    assert json.loads(stream.getvalue().splitlines()[-1])["lines_left_out"] == 90


def test_failure_that_repeats_has_a_line_each_minute(monkeypatch):
    """With the number of those that were left out. Other failures, jobs, tracebacks and answers to operators have their lines."""
    now = 0.0
    monkeypatch.setattr("creemson.logs.time.monotonic", lambda: now)
    stream = io.StringIO()
    logs.configure(sections.Log(), stream)
    log = logs.get_logger("x")
    for second in range(0, 120, 2):
        now = float(second)
        log.warning("leases not renewed", jobs=second, error="connection refused")
    log.warning("leases not renewed", jobs=1, error="too many clients")
    log.error("tokens cannot be read", error="connection refused")
    for job in ("a", "b"):
        log.warning("output not published", job=job, error="connection refused")
        log.error("command failed", error="It was logged.", traceback=job)
        log.error("the settings were not reloaded", error="port: ...", signal="SIGHUP")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["event"], line.get("lines_left_out")) for line in lines] == [
        ("leases not renewed", None),
        ("leases not renewed", 29),
        ("leases not renewed", None),
        ("tokens cannot be read", None),
        *[
            ("output not published", None),
            ("command failed", None),
            ("the settings were not reloaded", None),
        ]
        * 2,
    ]
