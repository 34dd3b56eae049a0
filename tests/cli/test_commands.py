"""The command line as users see it: output, files and exit status."""

import csv
import datetime
import gc
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import trustme
from click.testing import CliRunner

from creemson import __version__, cli
from creemson.cli.shared.arguments import parse_condition
from tests.servers import PATIENCE, SAMPLE, serving, wait_until

DASK = ["--set", "processing.engine=dask"]
FAST = ["--set", "processing.workers=1"]


def run(*arguments, **options):
    return CliRunner().invoke(
        cli.main, [str(argument) for argument in arguments], catch_exceptions=False, **options
    )


@pytest.fixture(autouse=True)
def isolated_folder(tmp_path, monkeypatch):
    """Run in an empty folder, without the settings of whoever runs the tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("CREEMSON_TOKEN", "CREEMSON_URL", "CREEMSON_LIMITS__QUEUE"):
        monkeypatch.delenv(name, raising=False)


def test_process_that_shows_a_table_in_a_pipe_prints_a_plain_one(tmp_path):
    """Prints the first rows and the size; no progress bar and no colour in a pipe."""
    done = run("process", SAMPLE, "--columns", "species,2", "--format", "table", *FAST)
    assert done.exit_code == 0
    assert "bill_length_mm" in done.stdout
    assert "Adelie" in done.stdout
    assert "344 rows × 2 columns" in done.stdout
    assert "\x1b" not in done.output
    assert list(tmp_path.iterdir()) == []


def test_process_of_one_cell_prints_its_size_in_the_singular():
    """One row × one column, not "1 rows"."""
    done = run("process", SAMPLE, "--columns", "species", "--limit", 1, "--format", "table", *FAST)
    assert "1 row × 1 column, processed" in done.stdout


def test_process_with_output_writes_the_file(tmp_path):
    """--output with filter, sort and limit."""
    target = tmp_path / "out.csv"
    done = run(
        "process", SAMPLE, "--columns", "body_mass_g,island", "--where", "body_mass_g > 4000", "--where",
        "island in Dream,Biscoe", "--sort", "body_mass_g:desc", "--limit", 5, "--output", target, *FAST,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    with target.open() as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["body_mass_g", "island"]
    assert [int(row[0]) for row in rows[1:]] == [6300, 6050, 6000, 6000, 5950]
    assert "out.csv" in done.stdout


def test_csv_output_has_texts_or_values(server, tmp_path):
    """--normalized of process, attach and download; the preview has values in both cases."""
    path = tmp_path / "written.csv"
    path.write_text("due;amount\n13/02/2024;10.50\n14/02/2024;NA\n")
    as_written = "due,amount\n13/02/2024,10.50\n14/02/2024,NA\n"
    values = "due,amount\n2024-02-13,10.5\n2024-02-14,\n"
    url = ["--url", server.url]
    assert run("process", path, "--output", "out.csv", *url).exit_code == 0
    assert Path("out.csv").read_text() == as_written
    done = json.loads(run("process", path, "--output", "out.csv", "--normalized", "--json", *url).stdout)
    assert Path("out.csv").read_text() == values
    output = done["output_data"]
    assert output["preview"] == [["2024-02-13", 10.5], ["2024-02-14", None]]
    name = output["final_filename_csv"]
    assert run("download", name, *url).exit_code == 0
    assert Path(name).read_text() == as_written
    assert run("download", name, "--normalized", *url).exit_code == 0
    assert Path(output["final_filename_csv_normalized"]).read_text() == values
    job = json.loads(run("jobs", "--json", *url).stdout.splitlines()[0])["job"]
    assert run("attach", job, "--output", "attached.csv", "--normalized", *url).exit_code == 0
    assert Path("attached.csv").read_text() == values


@pytest.mark.parametrize(
    "arguments",
    [
        ["process", SAMPLE, "--normalized", "--format", "ndjson"],
        ["process", SAMPLE, "--normalized", "--output", "out.parquet"],
        ["attach", "x", "--normalized", "--output", "out.xlsx"],
        ["download", "x.parquet", "--normalized"],
    ],
)
def test_only_a_csv_can_be_normalized(arguments):
    """Exit status 2, and the reason."""
    done = run(*arguments)
    assert done.exit_code == 2
    assert "can be normalized" in done.stderr


def test_process_with_groups_and_json_prints_one_line(tmp_path):
    """--group-by and --aggregate; --json prints one line for programs."""
    done = run(
        "process", SAMPLE, "--group-by", "species", "--aggregate", "body_mass_g:mean:mass", "--aggregate", "sex:count",
        "--sort", "species", "--json", "--profile", *FAST,
    )  # fmt: skip
    (line,) = done.stdout.splitlines()
    output = json.loads(line)["output_data"]
    assert output["columns"] == ["species", "mass", "sex_count"]
    assert [row[0] for row in output["preview"]] == ["Adelie", "Chinstrap", "Gentoo"]
    assert len(output["profile"]) == 3


def test_process_with_profile_prints_a_line_per_column():
    """--profile shows statistics of each column."""
    done = run("process", SAMPLE, "--columns", "2,species", "--profile", *FAST)
    assert "distinct" in done.stdout
    assert "59.6" in done.stdout


def test_process_of_wide_or_unsafe_data_prints_a_safe_table(tmp_path, monkeypatch):
    """Columns that do not fit are counted; control characters and markup do not reach the terminal."""
    monkeypatch.setenv("COLUMNS", "80")
    names = [f"c{number}" for number in range(20)]
    path = tmp_path / "wide.csv"
    path.write_text(",".join(names) + "\n" + ",".join(["[red]\x1b[31m"] + ["1"] * 19) + "\n")
    done = run("process", path, "--format", "table", *FAST)
    assert " more ┃" in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    assert "[red]�[31m" in done.stdout


def test_process_with_url_uses_the_running_server(server, tmp_path):
    """--url uses a running server."""
    done = run("process", SAMPLE, "--url", server.url, "--columns", 0, "--output", tmp_path / "out.ndjson")
    assert done.exit_code == 0, done.output
    lines = (tmp_path / "out.ndjson").read_text().splitlines()
    assert json.loads(lines[0]) == {"species": "Adelie"}


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["process", "nowhere.csv"], 2, "nowhere.csv"),
        (["process", SAMPLE, "--columns", "specis"], 1, "--columns: There is no column 'specis'"),
        (["process", SAMPLE, "--where", "year == 'x'"], 1, "--where \"year == 'x'\": 'year' is Int64"),
        (["process", SAMPLE, "--where", "year = 2007"], 2, "did you mean '=='?"),
        (["process", SAMPLE, "--where", "sex == 'male"], 2, "is not closed"),
        (["process", SAMPLE, "--aggregate", "sex:mean"], 1, "--aggregate 'sex:mean': mean needs numbers"),
        (["process", SAMPLE, "--cast", "year=intt"], 2, "--cast year: expected one of"),
        (["process", SAMPLE, SAMPLE], 2, "name a folder"),
        (["process", SAMPLE, SAMPLE, "--output", "out.csv"], 2, "is no folder"),
        (["process", SAMPLE, SAMPLE, "--output", "new"], 2, "write 'new/'"),
        (["process", SAMPLE, SAMPLE, "--output", "."], 2, "several files would be written to"),
        (["process", "no*.csv"], 2, "No file matches"),
        (["process", "."], 2, "is a folder"),
        (["process", SAMPLE, "--output", "no/such/"], 2, "'no/such/' cannot be created: No such file or directory"),
        (["process", SAMPLE, "--columns", "1,1"], 2, "once"),
        (["process", SAMPLE, "--columns", "[1,"], 2, "--columns"),
        (["process", SAMPLE, "--where", "nothing"], 2, "COLUMN OPERATOR VALUE"),
        (["process", SAMPLE, "--aggregate", "x"], 2, "COLUMN:FUNCTION"),
        (["process", SAMPLE, "--aggregate", "year:avg"], 2, "median"),
        (["process", SAMPLE, "--sort", "year:up"], 2, "direction"),
        (["process", SAMPLE, "--output", "out.doc"], 2, ".xlsx"),
        (["process", SAMPLE, "--output", "no/such/folder/out.csv"], 2, "no/such/folder"),
        (["process", SAMPLE, "--url", "ws://127.0.0.1:9/ws"], 1, "Is it running?"),
        (["columns", "a.csv", "--url", "ws://127.0.0.1:9/ws"], 1, "Is it running?"),
        (["config", "--set", "limits.quue=3"], 2, "limits.queue"),
        (["serve", "--port", "70000"], 2, "65535"),
        (["serve", "--host", "0.0.0.0"], 2, "server.insecure"),
        (["serve", "--set", "processing.engine=dask"], 2, "needs processing.dask_scheduler"),
        (["serve", *DASK, "--set", "processing.dask_scheduler=tcp://10.0.0.1:8786"], 2, "not encrypted"),
        (["serve", *DASK, "--set", "processing.dask_scheduler=tls://10.0.0.1:8786"], 2, "needs certificates"),
        (["serve", "--port", "0", *DASK, "--set", "processing.dask_scheduler=tcp://127.0.0.1:9"], 1, "cannot be reached"),
        (["worker"], 2, "--scheduler"),
        (["worker", "--scheduler", "tcp://10.0.0.1:8786"], 2, "not encrypted"),
        (["worker", "--scheduler", "tls://10.0.0.1:8786", "--tls", "/no/folder"], 2, "/no/folder/ca.pem cannot be read"),
        (["worker", "--tls-create", "/dev/null/no"], 1, "/dev/null/no"),
        (["serve", "--set", "auth.mode=jwt"], 2, "auth.jwt_audience"),
        (["serve", "--set", "server.tls_cert=no.pem", "--set", "server.tls_key=no.pem"], 1, "no.pem"),
        (["token", "create", " ", "--data-dir", "/dev/null/no"], 1, "not a name"),
        (["token", "create", "ann", "--data-dir", "/dev/null/no"], 1, "/dev/null/no"),
        (["token", "revoke", "nobody"], 1, "token list"),
        (["nonsense"], 2, "nonsense"),
        (["proces", "a.csv"], 2, "Did you mean 'process'?"),
    ],
)  # fmt: skip
def test_command_that_fails_prints_a_message_and_exit_status(arguments, status, words):
    """Exit status 1 for failed work, 2 for wrong usage; never a traceback."""
    fast = FAST if arguments[0] == "process" else []
    done = run(*arguments, *fast)
    assert done.exit_code == status, done.output
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_columns_of_a_misspelled_local_file_name_it(monkeypatch):
    """The user did not ask for a server; that there is none explains nothing alone."""
    monkeypatch.delenv("CREEMSON_URL", raising=False)
    monkeypatch.setattr("creemson.cli.columns.DEFAULT_URL", "ws://127.0.0.1:9/ws")
    done = run("columns", "nowhere.csv")
    assert done.exit_code == 1
    assert "There is no local file 'nowhere.csv', and" in done.stderr
    assert "Is it running?" in done.stderr


def test_columns_prints_a_table_or_json_lines(server):
    """A table, or one line per column with --json."""
    done = run("columns", "example.csv", "--url", server.url)
    assert "flipper_length_mm" in done.stdout
    lines = run("columns", "example.csv", "--url", server.url, "--json").stdout.splitlines()
    assert json.loads(lines[2]) == {"index": 2, "name": "bill_length_mm", "dtype": "Float64"}


def test_process_of_a_messy_file_reports_reading_and_repairs(server, tmp_path):
    """Reports how the file was read and what was repaired; options override; --strict fails with the line."""
    messy = tmp_path / "messy.csv"
    messy.write_text("# made by hand\nid;x\n1;2,5\n2\n3;4,5\n3;4,5\n")
    url = ["--url", server.url]
    done = run("process", messy, *url, "--json")
    output = json.loads(done.stdout)["output_data"]
    assert (output["rows"], output["dtypes"]) == (4, ["Int64", "Float64"])
    shown = run("process", messy, *url)
    assert "1 row padded" in shown.stderr
    assert "line 4: '2': has 1 of 2 cells" in shown.stderr
    assert ".rejects.csv" in shown.stderr
    description = run("columns", "messy.csv", *url).stdout
    assert "delimiter ';', 1 header row, 1 row skipped, decimal comma" in description
    strict = run("process", messy, *url, "--strict")
    assert strict.exit_code == 1
    assert "line 4" in strict.stderr
    overridden = run(
        "process", messy, *url, "--json", "--delimiter", ";", "--quote", "none", "--header", "no", "--skip-rows", 2,
        "--type", "column_1=string", "--decimal", ",", "--null-value", "3", "--distinct", "--rename", "column_2=y",
    )  # fmt: skip
    output = json.loads(overridden.stdout)["output_data"]
    assert (output["rows"], output["columns"], output["dtypes"]) == (
        3,
        ["column_1", "y"],
        ["String", "Float64"],
    )
    cast = json.loads(
        run("process", messy, *url, "--json", "--cast", "id=float64", "--distinct-on", "id").stdout
    )
    assert cast["output_data"]["dtypes"][0] == "Float64"
    assert cast["output_data"]["rows"] == 3


def test_signs_and_date_patterns_become_options(server):
    """--thousands, --date-format for all or for some columns, and --comment arrive as options."""
    url = ["--url", server.url, "--json"]
    described = run("columns", "example.csv", *url, "--date-format", "nowhere = when=%d/%m/%Y")
    assert described.exit_code == 1
    assert "'nowhere = when'" in described.stderr
    done = run(
        "columns",
        "example.csv",
        *url,
        "--thousands",
        "space",
        "--comment",
        "none",
        "--date-format",
        "%d/%m/%Y",
    )
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--header", "maybe"], "expected yes, no or the number of header rows"),
        (["--widths", "5,x"], "expected numbers of characters"),
        (["--type", "a"], "expected NAME=VALUE"),
        (["--type", "a=integer"], "expected one of"),
        (["--rename", "=b"], "expected NAME=VALUE"),
        (["--encoding", "klingon"], "there is no encoding"),
        (["--thousands", "x"], "expected a sign such as"),
        (["--comment", "//"], "at most 1 character"),
        (["--date-format", "%Q"], "there is no directive %Q"),
        (["--date-format", "dd/mm/yyyy"], "expected a strftime pattern"),
        (
            ["--date-format", "%Y", "--date-format", "a=%Y"],
            "expected COLUMN=PATTERN, because there are several",
        ),
    ],
)
def test_invalid_option_is_refused_before_reading(arguments, hint):
    """Exit status 2 with a hint, before any file is read."""
    done = run("process", SAMPLE, *arguments)
    assert done.exit_code == 2
    assert hint in done.stderr


def test_worker_of_a_refused_command_is_ended():
    """It is started before the arguments are checked."""
    this = psutil.Process()
    before = this.children(), this.num_fds()
    assert run("process", SAMPLE, "--where", "year").exit_code == 2
    assert (this.children(), this.num_fds()) == before


def test_jobs_attach_and_cancel_work_by_job_id(server, tmp_path):
    """The result of a finished job is shown again or written to a file."""
    url = ["--url", server.url]
    server.put("jobs.csv")
    with server.connect() as client:
        client.send({"type": "process", "id": "a", "filename": "jobs.csv", "limit": 2, "preview": 2})
        done = client.until("result")[-1]["job"]
    with server.connect() as client, server.frozen():
        client.send({"type": "process", "id": "b", "filename": "jobs.csv", "limit": 3})
        slow = client.receive()["job"]
        listed = [json.loads(line) for line in run("jobs", "--json", *url).stdout.splitlines()]
        assert [(info["job"], info["state"]) for info in listed[:2]] == [(slow, "running"), (done, "done")]
        assert run("cancel", slow, *url).exit_code == 0
        assert client.until("error")[-1]["reason"] == "cancelled"
    shown = run("jobs", *url).stdout
    assert "cancelled" in shown
    assert "jobs.csv" in shown
    assert "2 rows × 8 columns" in run("attach", done, "--format", "table", *url).stdout
    assert json.loads(run("attach", done, "--json", *url).stdout)["output_data"]["rows"] == 2
    assert "written to out.csv" in run("attach", done, "--output", "out.csv", *url).stdout
    assert "name a file in it" in run("attach", done, "--output", "new/", "--format", "csv", *url).stderr
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 3
    failed = run("attach", slow, *url)
    assert (failed.exit_code, "cancelled" in failed.stderr) == (1, True)
    for command in ("attach", "cancel"):
        unknown = run(command, "unheard-of", *url)
        assert (unknown.exit_code, "'unheard-of'" in unknown.stderr) == (1, True)
    assert run("attach", done, "--output", "out.pdf", *url).exit_code == 2
    assert json.loads(run("cancel", slow, "--json", *url).stdout) == {"job": slow}


@pytest.mark.slow
def test_process_when_interrupted_prints_how_to_attach(server, slow_csv):
    """The job continues on the server, and `creemson attach` gets its result."""
    command = [
        sys.executable,
        "-m",
        "creemson",
        "process",
        str(slow_csv),
        "--sort",
        "text",
        "--url",
        server.url,
    ]
    with server.connect() as client:

        def jobs():
            return client.ask({"type": "jobs", "id": "j"})["jobs"]

        def running(known):
            return [job["job"] for job in jobs() if job["job"] not in known and job["state"] == "running"]

        for limit in range(
            1, 6
        ):  # repeat until the signal arrives while the job runs and the command knows of it
            known = {job["job"] for job in jobs()}
            process = subprocess.Popen(
                [*command, "--limit", str(limit)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            wait_until(lambda p=process, known=known: running(known) or p.poll() is not None, 300)
            with server.frozen():
                found = running(known)
                if found:
                    time.sleep(limit)
                    process.send_signal(signal.SIGINT)
                    process.wait(PATIENCE)
            _, errors = process.communicate()
            if found and "creemson attach" in errors:
                break
        [job] = found
        assert process.returncode == 130
        assert f"creemson attach {job}" in errors
        client.send({"type": "attach", "id": "a", "job": job})
        assert client.until("result", "error")[-1]["type"] == "result"


def test_upload_files_download_and_delete_keep_the_bytes(server, tmp_path):
    """The bytes stay the same; an existing file is replaced only with --overwrite."""
    url = ["--url", server.url]
    (tmp_path / "one.csv").write_text("a\n1\n")
    (tmp_path / "two.csv").write_text("b,c\n2,3\n")
    done = run("upload", "one.csv", "two.csv", *url)
    assert done.stdout == "one.csv: 4 bytes, 1 column\ntwo.csv: 8 bytes, 2 columns\n"
    (tmp_path / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(8))
    assert run("upload", "photo.png", *url).stdout == "photo.png: 16 bytes, not a table that can be read\n"
    again = run("upload", "one.csv", *url)
    assert (again.exit_code, again.stdout) == (1, "")
    assert (
        "A file 'one.csv' already exists. Choose another name, or replace it with --overwrite" in again.stderr
    )
    assert json.loads(run("upload", "one.csv", "--overwrite", "--json", *url).stdout)["filename"] == "one.csv"
    assert "two.csv" in run("files", *url).stdout
    listed = [json.loads(line) for line in run("files", "--json", *url).stdout.splitlines()]
    assert {"filename": "two.csv", "size": 8}.items() <= next(
        f for f in listed if f["filename"] == "two.csv"
    ).items()
    (tmp_path / "folder").mkdir()
    for output, target in (
        ([], "two.csv"),
        (["-o", "folder"], "folder/two.csv"),
        (["-o", "new/"], "new/two.csv"),
        (["-o", "x"], "x"),
    ):
        assert run("download", "two.csv", *output, *url).stdout == f"{target}: 8 bytes\n"
        assert (tmp_path / target).read_text() == "b,c\n2,3\n"
    assert json.loads(run("download", "two.csv", "--json", *url).stdout)["size"] == 8
    assert run("download", "two.csv", "-o", "no/where.csv", *url).exit_code == 2
    assert run("delete", "two.csv", *url).exit_code == 0
    assert json.loads(run("delete", "one.csv", "--json", *url).stdout) == {"filename": "one.csv"}
    assert "There is no file 'two.csv'" in run("download", "two.csv", *url).stderr
    assert run("delete", "two.csv", *url).exit_code == 1


def test_serve_keeps_what_is_imported_out_of_garbage_collections(monkeypatch):
    """Each full collection looked at 70,000 objects that stay, in which time the event loop waited."""
    frozen = []
    # The attribute `serve` of the package may be the command; and no other test may have imported the module yet.
    module = importlib.import_module("creemson.cli.serve")
    monkeypatch.setattr(module, "run", lambda _: frozen.append(gc.get_freeze_count()))
    gc.unfreeze()
    try:
        assert run("serve").exit_code == 0
    finally:
        gc.unfreeze()
    assert frozen[0] > 10_000


def test_config_shows_value_and_origin_of_each_setting(tmp_path, monkeypatch):
    """Flags override the environment, which overrides the file."""
    (tmp_path / "creemson.toml").write_text("[limits]\nqueue = 5\n[timeouts]\njob = 7\n")
    monkeypatch.setenv("CREEMSON_LIMITS__QUEUE", "6")
    lines = [
        json.loads(line) for line in run("config", "--json", "--set", "retries.job=0").stdout.splitlines()
    ]
    found = {line["key"]: (line["value"], line["origin"]) for line in lines}
    assert found["limits.queue"] == ("6", "CREEMSON_LIMITS__QUEUE")
    assert found["timeouts.job"] == ("7 s", "creemson.toml")
    assert found["retries.job"] == ("0", "--set")
    assert found["server.port"] == ("8000", "default")
    assert "limits.queue" in run("config").stdout


def test_python_m_creemson_is_the_same_program():
    """`python -m creemson`."""
    done = subprocess.run(
        [sys.executable, "-m", "creemson", "--version"], capture_output=True, text=True, check=True
    )
    assert __version__ in done.stdout


def test_serve_with_open_prints_one_line_and_accepts(tmp_path):
    """The line with the page's address is printed once connections are accepted."""
    with (
        serving(tmp_path / "data", "--open", "--set", "processing.workers=1") as server,
        server.connect() as client,
    ):
        assert client.ask({"type": "ping"})["type"] == "pong"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a == 1", ["a", "==", 1]),
        ("a==x y", ["a", "==", "x y"]),
        ("0 <= 2.5", [0, "<=", 2.5]),
        ("a b != null", ["a b", "!=", None]),
        ("a contains is_null", ["a", "contains", "is_null"]),
        ("a not_null", ["a", "not_null"]),
        ('a in ["x", 1]', ["a", "in", ["x", 1]]),
        ("a not_in x, 2", ["a", "not_in", ["x", 2]]),
        ('a starts_with "1"', ["a", "starts_with", "1"]),
        ("a icontains Zoë", ["a", "icontains", "Zoë"]),
    ],
)
def test_condition_text_is_parsed_into_its_parts(text, parts):
    """Operators are words or signs; values are JSON if they parse as such, else text."""
    assert parse_condition(text) == parts


def test_top_in_a_pipe_prints_once(server):
    """A table of figures, or one line of JSON."""
    shown = run("top", "--url", server.url).stdout
    for word in ("connections", "memory", "event loop", "errors"):
        assert word in shown
    figures = json.loads(run("top", "--url", server.url, "--json", "--once").stdout)
    assert set(figures["jobs"]) == {"queued", "running", "done", "failed", "cancelled"}
    assert figures["memory_bytes"]["server"] > 10_000_000
    assert figures["uptime_s"] > 0


def test_top_without_a_server_prints_a_message():
    """A message, not a traceback."""
    done = run("top", "--url", "ws://127.0.0.1:9/ws")
    assert (done.exit_code, "Is it running?" in done.stderr) == (1, True)
    assert run("top", "--url", "ftp://127.0.0.1/").exit_code == 2


def test_doctor_on_a_healthy_system_exits_with_0(tmp_path):
    """One line per check, and exit status 0."""
    done = run("doctor", "--port", 0, "--data-dir", tmp_path / "data", "--json")
    findings = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.exit_code == 0, findings
    assert {"versions", "settings", "port", "folder", "memory", "files", "workers"} <= {
        finding["what"] for finding in findings
    }
    assert {finding["verdict"] for finding in findings} <= {"ok", "warn"}


def test_doctor_with_problems_reports_each_and_exits_with_1(server, tmp_path):
    """A port and a folder in use, insufficient settings, a missing certificate."""
    done = run(
        "doctor", "--port", server.port, "--data-dir", server.data_dir, "--host", "127.0.0.1", "--json",
        "--set", "auth.mode=jwt", "--set", "server.tls_cert=no.pem", "--set", "server.tls_key=no.pem",
    )  # fmt: skip
    wrong = {
        finding["what"]: finding["text"]
        for finding in map(json.loads, done.stdout.splitlines())
        if finding["verdict"] == "fail"
    }
    assert done.exit_code == 1
    assert set(wrong) == {"settings", "port", "folder", "TLS"}
    assert "Another server uses" in wrong["folder"]
    assert "writable" not in wrong["folder"]
    assert "no.pem" in wrong["TLS"]


def test_catalog_of_a_folder_without_one_is_not_exported_as_empty(tmp_path):
    """A wrong name of the data folder gives no backup, creates no folder, and keeps an earlier backup."""
    backup = tmp_path / "backup.jsonl"
    backup.write_text("earlier")
    done = run("catalog", "export", str(backup), "--data-dir", str(tmp_path / "nowhere"))
    assert done.exit_code == 1
    assert f"There is no catalog in {tmp_path / 'nowhere'}" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["backup.jsonl"]
    assert backup.read_text() == "earlier"


def test_doctor_warns_about_expiring_certificate_and_tokens(tmp_path):
    """Warns if the certificate expires soon or no token exists, and checks the token file's mode."""
    made = trustme.CA().issue_cert(
        "localhost", not_after=datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=3)
    )
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(made.cert_chain_pems[0].bytes())
    key.write_bytes(made.private_key_pem.bytes())
    command = [
        "doctor", "--port", 0, "--data-dir", tmp_path / "data", "--json", "--set", "auth.mode=token",
        "--set", f"server.tls_cert={chain}", "--set", f"server.tls_key={key}",
    ]  # fmt: skip
    warned = [json.loads(line) for line in run(*command).stdout.splitlines() if '"warn"' in line]
    assert {finding["what"] for finding in warned} == {"TLS", "tokens"}
    run("token", "create", "ann", "--data-dir", tmp_path / "data")
    (tmp_path / "data" / "tokens").chmod(0o644)
    texts = [json.loads(line)["text"] for line in run(*command).stdout.splitlines() if '"tokens"' in line]
    assert any("chmod 600" in text for text in texts)
    assert any(text.startswith("1 in ") for text in texts)


def test_doctor_reports_files_of_somebody_else(tmp_path, monkeypatch):
    """Of the data folder and the token file, with what to do."""
    data = tmp_path / "data"
    data.mkdir()
    for name in ("catalog.db", "tokens"):
        (data / name).touch()
    may = os.access
    monkeypatch.setattr(  # root, who may use everything, runs this test in containers
        os,
        "access",
        lambda path, mode, **o: Path(path).name not in ("catalog.db", "tokens") and may(path, mode, **o),
    )
    options = ["--data-dir", data, "--json", "--set", "auth.mode=token"]
    findings = [json.loads(line) for line in run("doctor", "--port", 0, *options).stdout.splitlines()]
    wrong = {finding["what"]: finding["text"] for finding in findings if finding["verdict"] == "fail"}
    assert set(wrong) == {"folder", "tokens"}
    assert not any(finding["what"] == "folder" and finding["verdict"] == "ok" for finding in findings)
    assert "catalog.db belongs to" in wrong["folder"]
    assert "chmod" in wrong["tokens"]


def test_token_create_list_and_revoke_show_the_token_once(tmp_path):
    """Only creation prints the token, alone on standard output; later only name and id are shown."""
    folder = ["--data-dir", tmp_path / "data"]
    made = run("token", "create", "ann", *folder)
    assert re.fullmatch(r"crm_[0-9a-f]{12}_[\w-]{43}\n", made.stdout)
    assert made.stderr == ""
    assert run("token", "create", "ann", *folder).exit_code == 1
    (listed,) = [json.loads(line) for line in run("token", "list", "--json", *folder).stdout.splitlines()]
    assert (listed["name"], listed["id"]) == ("ann", made.stdout.split("_")[1])
    assert "ann" in run("token", "list", *folder).stdout
    assert run("token", "revoke", "ann", *folder).exit_code == 0
    assert run("token", "list", "--json", *folder).stdout == ""


def test_command_without_a_token_says_how_to_give_one(tmp_path):
    """The server's message is for programs: it names a message and a header."""
    data = tmp_path / "data"
    assert run("token", "create", "ann", "--data-dir", data).exit_code == 0
    with serving(data, "--set", "auth.mode=token") as server:
        for done in (run("files", "--url", server.url), run("top", "--url", server.url)):
            assert (done.exit_code, done.stdout) == (1, "")
            assert done.stderr == "creemson: Authenticate first: give --token, or set CREEMSON_TOKEN.\n"


def test_server_that_cannot_reach_its_cluster_gives_its_port_back():
    """A program that starts servers itself can use the port again."""
    done = run("serve", "--port", "0", *DASK, "--set", "processing.dask_scheduler=tcp://127.0.0.1:9")
    assert done.exit_code == 1
    assert not [one for one in psutil.Process().net_connections() if one.status == psutil.CONN_LISTEN]
