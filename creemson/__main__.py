"""Runs the command line: ``python -m creemson`` is the same program as ``creemson``."""

import gc
import os
import signal
import sys

__all__ = ["run"]


def run() -> None:
    """Run the command line, with UTF-8 as the encoding of file names, arguments and output, whatever the locale."""
    # PEP 540: the mode cannot be changed after the start. Python enables it by itself for the locale C.
    if sys.getfilesystemencoding() != "utf-8":
        os.environ["PYTHONUTF8"] = "1"  # for processes that this one starts
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606
    # Ctrl-C while modules are imported ends the program at once, without a traceback. Commands that must clean up
    # handle the signal once they have begun. It stays ignored where the caller has ignored it.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.disable()  # until the command is imported; see creemson.startup
    from creemson.cli import main  # noqa: PLC0415 - after the signal is set

    main()


if __name__ == "__main__":
    run()
