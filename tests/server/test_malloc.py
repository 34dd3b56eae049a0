"""Freed memory goes back to the system."""

import subprocess
import sys

PROGRAM = """
import psutil
from creemson.server import heap

heap.keep_small()
rss = psutil.Process().memory_info
before = rss().rss
blocks = [bytes(20_000) for _ in range(5000)]
full = rss().rss
last = blocks[-1]  # pins the end of the heap, and with it all that is below
del blocks
heap.give_back()
after = rss().rss
assert full - before > 90e6, full - before
assert after - before < 10e6, after - before
"""


def test_freed_memory_is_given_back():
    """Also when something that is in use lies behind it, which is what makes a heap grow for ever."""
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)
