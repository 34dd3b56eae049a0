"""Garbage collections while a program starts."""

import subprocess
import sys

STARTED = """
import gc, sys
sys.argv = ["creemson", "config"]
from creemson import __main__, cli
seen = []
get = cli.Commands.get_command
def get_command(*args):
    seen.append(gc.isenabled())
    found = get(*args)
    seen.extend([gc.isenabled(), gc.get_freeze_count() > 10_000])
    return found
cli.Commands.get_command = get_command
try:
    __main__.run()
finally:
    print(seen, file=sys.stderr)
"""


def test_command_is_imported_without_collections_and_runs_with_them():
    """What was imported is kept out of them."""
    done = subprocess.run([sys.executable, "-c", STARTED], check=True, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == "[False, True, True]"


def test_import_into_a_program_leaves_its_collections_as_they_are():
    """Enabled or not, and what is kept out of them."""
    code = (
        "import gc, creemson\n"
        "print(gc.isenabled(), gc.get_freeze_count())\n"
        "creemson.process\n"
        "print(gc.isenabled(), gc.get_freeze_count())\n"
        "gc.disable()\n"
        "creemson.Client\n"
        "print(gc.isenabled())"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["True", "0", "True", "0", "False"]
