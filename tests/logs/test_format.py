"""What the logs look like, and what stays out of them."""

import io
import json
import logging
from datetime import datetime, timedelta

import pytest
import structlog

from creemson import observe, settings


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


def test_json_outside_a_terminal():
    """Format `auto` writes one JSON object per line where the stream is no terminal."""
    stream = io.StringIO()
    observe.configure(settings.Log(), stream)
    observe.get_logger("creemson.processor").info("job started", job="j1", data=b"\x00")
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


def test_console_on_a_terminal():
    """Format `auto` writes coloured text on a terminal, and escapes control characters in values."""
    stream = Terminal()
    observe.configure(settings.Log(), stream)
    observe.get_logger("creemson.storage").warning("upload kept", file="a\x1b[2J.csv\nb")
    text = stream.getvalue()
    assert "upload kept" in text
    assert "creemson.storage" in text
    assert "\x1b[" in text
    assert r"'a\x1b[2J.csv\nb'" in text
    assert text.count("\n") == 1


@pytest.mark.parametrize(("chosen", "stream"), [("console", io.StringIO()), ("json", Terminal())])
def test_a_named_format_beats_the_terminal(chosen, stream):
    """A format that is set is used whatever the stream is; text outside a terminal has no colours."""
    observe.configure(settings.Log(format=chosen), stream)
    observe.get_logger("x").info("hello")
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
def test_levels(level, logged):
    """Events below the level are dropped."""
    stream = io.StringIO()
    observe.configure(settings.Log(level=level), stream)
    log = observe.get_logger("x")
    for name in ("debug", "info", "warning", "error"):
        getattr(log, name)("event")
    assert logged == [json.loads(line)["level"] for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize("chosen", ["json", "console"])
def test_a_traceback_shows_no_local_variables(chosen):
    """A logged exception has its traceback as text, and no values of variables, which may be secrets."""

    def fail():
        secret = "hunter" + "2"
        raise ValueError(len(secret))

    stream = Terminal()
    observe.configure(settings.Log(format=chosen), stream)
    try:
        fail()
    except ValueError:
        observe.get_logger("x").exception("job failed")
    text = stream.getvalue()
    assert "ValueError: 7" in text
    assert "Traceback" in text
    assert "hunter2" not in text


def test_context_is_in_every_line():
    """What structlog's context variables hold (a connection's name, say) is in each line."""
    stream = io.StringIO()
    observe.configure(settings.Log(), stream)
    structlog.contextvars.bind_contextvars(connection="c1")
    observe.get_logger("x").info("hello")
    assert json.loads(stream.getvalue())["connection"] == "c1"


def test_a_logger_follows_a_later_configuration():
    """A logger made before `configure`, as modules do on import, uses the newest configuration."""
    log = observe.get_logger("x")
    first, second = io.StringIO(), io.StringIO()
    observe.configure(settings.Log(), first)
    log.info("one")
    observe.configure(settings.Log(), second)
    log.info("two")
    assert json.loads(first.getvalue())["event"] == "one"
    assert json.loads(second.getvalue())["event"] == "two"


def test_standard_error_is_the_default(capsys):
    """Without a stream, lines go to what is standard error at that moment, and none to standard output."""
    observe.configure(settings.Log())
    observe.get_logger("x").info("hello")
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err)["event"] == "hello"


@pytest.mark.parametrize("name", ["trio-websocket", "trio_websocket"])
def test_the_websocket_library_is_quiet(name, caplog):
    """The library's notes on frames and odd events reach no handler, even where all of logging is shown."""
    observe.configure(settings.Log(level="debug"))
    with caplog.at_level(logging.DEBUG):
        logging.getLogger(name).debug("received 3 bytes")
        logging.getLogger(name).warning("received unknown event")
        logging.getLogger(name).error("a fault of the library")
    assert caplog.messages == ["a fault of the library"]
