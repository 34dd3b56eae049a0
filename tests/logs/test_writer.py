"""Text that cannot be written: nobody waits for it, nobody fails, and what is dropped is counted."""

import errno
import os
import threading

import pytest

from creemson.logs import writer as writer_module
from creemson.logs.writer import BackgroundWriter, to_descriptor
from tests.servers import PATIENCE, wait_until


class Sink:
    """A place to write to that can be blocked or broken."""

    def __init__(self):
        self.texts = []
        self.error = None
        self.open = threading.Event()
        self.open.set()

    def __call__(self, text):
        assert self.open.wait(PATIENCE)
        if self.error is not None:
            raise self.error
        self.texts.append(text)


def test_texts_are_written_in_order():
    """Also those that wait at the end."""
    sink = Sink()
    writer = BackgroundWriter(sink)
    for number in range(1000):
        writer.write(f"{number}\n")
    writer.end(PATIENCE)
    assert sink.texts == [f"{number}\n" for number in range(1000)]
    assert writer.dropped == 0


def test_blocked_sink_delays_nobody(monkeypatch):
    """What does not fit into the bound is dropped and counted; the rest is written when it can be."""
    monkeypatch.setattr(writer_module, "MAX_WAITING", 100)
    sink = Sink()
    sink.open.clear()
    writer, told = BackgroundWriter(sink), []
    writer.notify(told.append)
    for _ in range(25):
        writer.write("0123456789")
    assert writer.dropped == 15
    writer.end(0.01)  # does not wait for the sink, either
    assert sink.texts == []
    sink.open.set()
    wait_until(lambda: len(sink.texts) == 10)
    assert told == [15]


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(errno.ENOSPC, "full"), ValueError("closed")])
def test_failing_sink_fails_nobody(error):
    """When it works again, there is one notice."""
    sink, told = Sink(), []
    writer = BackgroundWriter(sink)
    writer.notify(told.append)
    sink.error = error
    for _ in range(3):
        writer.write("x")
    wait_until(lambda: writer.dropped == 3)
    sink.error = None
    for _ in range(3):
        writer.write("y")
    writer.end(PATIENCE)
    assert sink.texts == ["y"] * 3
    assert told == [3]


def test_full_disk_is_survived():
    """The device /dev/full refuses every byte."""
    file = os.open("/dev/full", os.O_WRONLY)
    writer = BackgroundWriter(to_descriptor(file))
    writer.write("x")
    writer.end(PATIENCE)
    os.close(file)
    assert writer.dropped == 1


def test_text_after_a_cut_one_begins_on_a_new_line(monkeypatch):
    """A full disk may take half of a line."""
    taken, room = [], [3]

    def write(_, data):
        if not room[0]:
            raise OSError(errno.ENOSPC, "full")
        taken.append(bytes(data[: room[0]]))
        room[0] -= len(taken[-1])
        return len(taken[-1])

    monkeypatch.setattr(writer_module.os, "write", write)
    sink = to_descriptor(99)
    with pytest.raises(OSError, match="full"):
        sink("first\n")
    room[0] = 100
    sink("second\n")
    sink("third\n")
    assert b"".join(taken) == b"fir\nsecond\nthird\n"


def test_pipe_that_does_not_block_is_waited_for():
    """Another process may have set O_NONBLOCK for all that share it."""
    reader, end = os.pipe()
    os.set_blocking(end, False)
    writer = BackgroundWriter(to_descriptor(end))
    for _ in range(20):
        writer.write("é" * 10_000)
    received = 0
    while received < 20 * 20_000:
        received += len(os.read(reader, 2**20))
    writer.end(PATIENCE)
    assert writer.dropped == 0
    os.close(reader)
    os.close(end)


def test_bytes_are_refused_at_once():
    """Libraries try this to find out whether a stream takes text; the thread must not fail for it."""
    with pytest.raises(TypeError, match="bytes"):
        BackgroundWriter(Sink()).write(b"x")
