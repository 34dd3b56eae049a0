"""A real server whose catalog is in PostgreSQL."""

import subprocess
import sys

import pytest

from tests.databases import postgres
from tests.servers import PATIENCE, serving

TABLE = b"a,b\n1,x\n2,y\n"


@pytest.fixture(scope="module")
def database():
    with postgres() as database:
        yield database


def catalog(*arguments, given=None):
    command = [sys.executable, "-m", "creemson", "catalog", *arguments]
    done = subprocess.run(command, input=given, capture_output=True, timeout=PATIENCE)
    return done.returncode, done.stdout, done.stderr.decode()


@pytest.mark.slow
def test_files_and_jobs_move_with_the_catalog(database, tmp_path):
    """From the data folder to PostgreSQL; a second server is refused, and the password is in no message."""
    folder, url = tmp_path / "data", database.url()
    with serving(folder) as server, server.connect() as client:
        client.upload("a.csv", TABLE)
        assert client.run(filename="a.csv")["data"]["output_data"]["rows"] == 2
    code, exported, said = catalog("export", "--data-dir", str(folder))
    assert (code, said) == (0, "")
    setting = f"catalog.url={url.replace('postgres@', 'postgres:secret@')}"
    there = ("--data-dir", str(folder), "--set", setting)
    code, _, said = catalog("import", *there, given=exported)
    assert code == 0
    assert "1 jobs" in said
    assert catalog("import", *there, given=exported)[0] == 1
    (folder / "catalog.db").unlink()
    with serving(folder, "--set", setting) as server, server.connect() as client:
        assert client.run(filename="a.csv")["data"]["output_data"]["cached"]
        other = subprocess.run(
            [sys.executable, "-m", "creemson", "serve", "--port", "0", "--data-dir", str(tmp_path / "b"), "--set", setting],
            capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
        assert other.returncode != 0
        assert "another server uses the catalog" in other.stderr
        assert "secret" not in other.stderr + server.log.read_text()
    assert not (folder / "catalog.db").exists()


def test_doctor_tells_what_a_server_would_do_with_the_tables(database, tmp_path):
    """Before the first start, and while a server runs there: then the database is taken."""
    setting = f"catalog.url={database.url()}"

    def told():
        command = [
            sys.executable,
            "-m",
            "creemson",
            "doctor",
            "--port",
            "0",
            "--data-dir",
            str(tmp_path / "b"),
            "--set",
            setting,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        assert done.stderr == ""
        return next(line for line in done.stdout.splitlines() if "catalog:" in line)

    assert "makes its tables at the first start" in told()
    with serving(tmp_path / "data", "--set", setting):
        assert "another server uses the catalog" in told()
    assert "are those of this version" in told()


@pytest.mark.slow
def test_restarts_and_crashes_of_the_database_lose_no_job(database, tmp_path):
    """What happens in the meantime waits, and each job has its result."""
    with serving(tmp_path / "data", "--set", f"catalog.url={database.url()}") as server:
        for number in range(3):
            with server.connect() as client:
                client.upload(f"{number}.csv", TABLE)
                database.stop()
                database.start()
                assert client.run(filename=f"{number}.csv")["data"]["output_data"]["rows"] == 2
        with server.connect() as client:
            assert len(client.ask({"type": "jobs", "id": "j"})["jobs"]) == 3
