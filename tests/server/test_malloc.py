"""Freed memory is returned to the system."""

import subprocess
import sys

PROGRAM = """
import psutil
from creemson.server import malloc

malloc.keep_small()
rss = psutil.Process().memory_info
before = rss().rss
blocks = [bytes(20_000) for _ in range(5000)]
full = rss().rss
last = blocks[-1]  # pins the end of the heap, and all memory below it
del blocks
malloc.give_back()
after = rss().rss
assert full - before > 90e6, full - before
assert after - before < 10e6, after - before
"""


def test_freed_memory_below_a_used_block_is_returned():
    """A block in use at the end of the heap would otherwise keep the memory below it forever."""
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)
