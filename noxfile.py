"""What has to pass before a change lands: ``nox`` runs it all."""

import nox

nox.options.sessions = ["lint", "types", "tests"]
nox.options.reuse_existing_virtualenvs = True

PARALLEL = ("-n", "2", "--dist", "loadfile")
"""Two at a time, since most tests wait for sockets and processes; a file's tests share its servers."""

PATIENT = ("-o", "faulthandler_timeout=1200")
"""For tests of minutes: a look at the stacks of a running thread may crash the interpreter, and once did."""


@nox.session
def lint(session: nox.Session) -> None:
    """Style and common mistakes."""
    session.install("ruff>=0.15")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Strict type checking."""
    session.install("mypy>=1.15", ".", "fastapi", "uvicorn", "websockets", "types-psutil")
    session.run("mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """Tests and doctests but for the slow ones, with branch coverage; arguments go to pytest."""
    session.install("-e", ".[test]")
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", "-m", "not slow", *PARALLEL, *session.posargs)
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")


@nox.session
def slow(session: nox.Session) -> None:
    """The tests that take their time: hundreds of random runs on bad networks and dying servers."""
    session.install("-e", ".[test]")
    session.run("pytest", "-m", "slow", "--ignore=tests/fuzz", *PATIENT, *PARALLEL, *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """A million mutated messages, frames and handshakes against a live server; then coverage-guided ones."""
    session.install("-e", ".[test,fuzz]")
    session.run("pytest", "-m", "slow", "tests/fuzz", *PATIENT, *session.posargs)
    session.run("python", "-m", "tests.fuzz")


@nox.session
def soak(session: nox.Session) -> None:
    """Ten minutes of 500 users on a real server; arguments go to `python -m tests.soak`."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "tests.soak", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """The benchmarks, on a machine that has nothing else to do."""
    session.install(".[bench]")
    session.run("python", "-m", "benchmarks", *session.posargs)
