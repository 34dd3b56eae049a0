"""The command line, as its users see it: output, files and exit status."""

import csv
import datetime
import json
import re
import signal
import subprocess
import sys
import time

import pytest
import trustme
from click.testing import CliRunner

from creemson import __version__, cli
from creemson.cli.arguments import parse_condition
from tests.servers import SAMPLE, serving, wait_until

FAST = ["--set", "processing.workers=1"]


def run(*arguments, **options):
    return CliRunner().invoke(
        cli.main, [str(argument) for argument in arguments], catch_exceptions=False, **options
    )


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    """No settings of whoever runs the tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("CREEMSON_TOKEN", "CREEMSON_LIMITS__QUEUE"):
        monkeypatch.delenv(name, raising=False)


def test_process_shows_a_table(tmp_path):
    """The first rows, how many there are, and no bar or colour in a pipe."""
    done = run("process", SAMPLE, "--columns", "species,2", *FAST)
    assert done.exit_code == 0
    assert "bill_length_mm" in done.stdout
    assert "Adelie" in done.stdout
    assert "344 rows × 2 columns" in done.stdout
    assert "\x1b" not in done.output
    assert list(tmp_path.iterdir()) == []


def test_process_writes_a_file(tmp_path):
    """--output, with filter, sort and limit."""
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


def test_process_groups(tmp_path):
    """--group-by and --aggregate; --json prints one line for machines."""
    done = run(
        "process", SAMPLE, "--group-by", "species", "--aggregate", "body_mass_g:mean:mass", "--aggregate", "sex:count",
        "--sort", "species", "--json", "--profile", *FAST,
    )  # fmt: skip
    (line,) = done.stdout.splitlines()
    output = json.loads(line)["output_data"]
    assert output["columns"] == ["species", "mass", "sex_count"]
    assert [row[0] for row in output["preview"]] == ["Adelie", "Chinstrap", "Gentoo"]
    assert len(output["profile"]) == 3


def test_process_shows_a_profile():
    """A line per column."""
    done = run("process", SAMPLE, "--columns", "2,species", "--profile", *FAST)
    assert "distinct" in done.stdout
    assert "59.6" in done.stdout


def test_process_of_many_columns_and_odd_cells(tmp_path, monkeypatch):
    """What does not fit is said; control characters and markup do not reach the terminal."""
    monkeypatch.setenv("COLUMNS", "80")
    names = [f"c{number}" for number in range(20)]
    path = tmp_path / "wide.csv"
    path.write_text(",".join(names) + "\n" + ",".join(["[red]\x1b[31m"] + ["1"] * 19) + "\n")
    done = run("process", path, *FAST)
    assert " more ┃" in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    assert "[red]�[31m" in done.stdout


def test_process_on_a_server(server, tmp_path):
    """--url uses a running server."""
    done = run("process", SAMPLE, "--url", server.url, "--columns", 0, "--output", tmp_path / "out.ndjson")
    assert done.exit_code == 0, done.output
    lines = (tmp_path / "out.ndjson").read_text().splitlines()
    assert json.loads(lines[0]) == {"species": "Adelie"}


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["process", "nowhere.csv"], 2, "nowhere.csv"),
        (["process", SAMPLE, "--columns", "specis"], 1, "Did you mean 'species'?"),
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
        (["serve", "--set", "processing.engine=dask"], 2, "not available"),
        (["serve", "--set", "auth.mode=jwt"], 2, "auth.jwt_audience"),
        (["serve", "--set", "server.tls_cert=no.pem", "--set", "server.tls_key=no.pem"], 1, "no.pem"),
        (["token", "create", " ", "--data-dir", "/dev/null/no"], 1, "no name"),
        (["token", "create", "ann", "--data-dir", "/dev/null/no"], 1, "/dev/null/no"),
        (["token", "revoke", "nobody"], 1, "token list"),
        (["nonsense"], 2, "nonsense"),
    ],
)  # fmt: skip
def test_faults_are_told_in_words(arguments, status, words):
    """Exit status 1 for work that failed, 2 for bad usage; never a traceback."""
    fast = FAST if arguments[0] == "process" else []
    done = run(*arguments, *fast)
    assert done.exit_code == status, done.output
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_columns(server):
    """A table, or a line for each with --json."""
    done = run("columns", "example.csv", "--url", server.url)
    assert "flipper_length_mm" in done.stdout
    lines = run("columns", "example.csv", "--url", server.url, "--json").stdout.splitlines()
    assert json.loads(lines[2]) == {"index": 2, "name": "bill_length_mm", "dtype": "Float64"}


def test_a_messy_file(server, tmp_path):
    """How it was read and what was mended is told; options overrule, --strict fails with where."""
    messy = tmp_path / "messy.csv"
    messy.write_text("# made by hand\nid;x\n1;2,5\n2\n3;4,5\n3;4,5\n")
    url = ["--url", server.url]
    done = run("process", messy, *url, "--json")
    output = json.loads(done.stdout)["output_data"]
    assert (output["rows"], output["dtypes"]) == (4, ["Int64", "Float64"])
    shown = run("process", messy, *url)
    assert "1 row padded" in shown.stderr
    assert "line 4: '2': it has 1 of 2 cells" in shown.stderr
    assert ".rejects.csv" in shown.stderr
    told = run("columns", "messy.csv", *url).stdout
    assert "delimiter ';', one header row, 1 lines skipped, decimal comma" in told
    strict = run("process", messy, *url, "--strict")
    assert strict.exit_code == 1
    assert "line 4" in strict.stderr
    asked = run(
        "process", messy, *url, "--json", "--delimiter", ";", "--quote", "none", "--header", "no", "--skip-rows", 2,
        "--type", "column_1=string", "--decimal", ",", "--null-value", "3", "--distinct", "--rename", "column_2=y",
    )  # fmt: skip
    output = json.loads(asked.stdout)["output_data"]
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


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--header", "maybe"], "expected yes, no or the number of header rows"),
        (["--widths", "5,x"], "expected numbers of characters"),
        (["--type", "a"], "expected NAME=VALUE"),
        (["--type", "a=integer"], "expected one of"),
        (["--rename", "=b"], "expected NAME=VALUE"),
        (["--encoding", "klingon"], "there is no encoding"),
    ],
)
def test_options_that_make_no_sense(arguments, hint):
    """They are told before anything is read."""
    done = run("process", SAMPLE, *arguments)
    assert done.exit_code == 2
    assert hint in done.stderr


def test_jobs_are_listed_followed_and_cancelled(server, tmp_path):
    """By their names; the result of one that has ended is shown again, or written to a file."""
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
    assert "2 rows × 8 columns" in run("attach", done, *url).stdout
    assert json.loads(run("attach", done, "--json", *url).stdout)["output_data"]["rows"] == 2
    assert "written to out.csv" in run("attach", done, "--output", "out.csv", *url).stdout
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 3
    failed = run("attach", slow, *url)
    assert (failed.exit_code, "cancelled" in failed.stderr) == (1, True)
    for command in ("attach", "cancel"):
        unknown = run(command, "unheard-of", *url)
        assert (unknown.exit_code, "'unheard-of'" in unknown.stderr) == (1, True)
    assert run("attach", done, "--output", "out.pdf", *url).exit_code == 2
    assert json.loads(run("cancel", slow, "--json", *url).stdout) == {"job": slow}


def test_who_interrupts_is_told_how_to_come_back(server, slow_csv):
    """The job goes on with the server."""
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

        def newest():
            return client.ask({"type": "jobs", "id": "j"})["jobs"][0]

        for limit in range(1, 6):  # until it is caught in the middle of the work
            process = subprocess.Popen(
                [*command, "--limit", str(limit)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            wait_until(lambda: newest()["filename"] == slow_csv.name and newest()["state"] == "running")
            with server.frozen():
                job = newest()
                if job["state"] == "running":
                    time.sleep(1)  # until the command has heard of it, too
                    process.send_signal(signal.SIGINT)
                    _, errors = process.communicate(timeout=20)
                    break
            process.communicate()
        assert process.returncode == 130
        assert f"creemson attach {job['job']}" in errors
        client.send({"type": "attach", "id": "a", "job": job["job"]})
        assert client.until("result", "error")[-1]["type"] == "result"


def test_files_go_up_and_down(server, tmp_path):
    """upload, files, download, delete; the bytes are the same, and a name that is taken is not replaced."""
    url = ["--url", server.url]
    (tmp_path / "one.csv").write_text("a\n1\n")
    (tmp_path / "two.csv").write_text("b,c\n2,3\n")
    done = run("upload", "one.csv", "two.csv", *url)
    assert done.stdout == "one.csv: 4 bytes, 1 columns\ntwo.csv: 8 bytes, 2 columns\n"
    again = run("upload", "one.csv", *url)
    assert (again.exit_code, again.stdout) == (1, "")
    assert "There is a file 'one.csv' already" in again.stderr
    assert json.loads(run("upload", "one.csv", "--overwrite", "--json", *url).stdout)["filename"] == "one.csv"
    assert "two.csv" in run("files", *url).stdout
    listed = [json.loads(line) for line in run("files", "--json", *url).stdout.splitlines()]
    assert {"filename": "two.csv", "size": 8}.items() <= next(
        f for f in listed if f["filename"] == "two.csv"
    ).items()
    (tmp_path / "folder").mkdir()
    for output, target in (([], "two.csv"), (["-o", "folder"], "folder/two.csv"), (["-o", "x"], "x")):
        assert run("download", "two.csv", *output, *url).stdout == f"{target}: 8 bytes\n"
        assert (tmp_path / target).read_text() == "b,c\n2,3\n"
    assert json.loads(run("download", "two.csv", "--json", *url).stdout)["size"] == 8
    assert run("download", "two.csv", "-o", "no/where.csv", *url).exit_code == 2
    assert run("delete", "two.csv", *url).exit_code == 0
    assert json.loads(run("delete", "one.csv", "--json", *url).stdout) == {"filename": "one.csv"}
    assert "There is no file 'two.csv'" in run("download", "two.csv", *url).stderr
    assert run("delete", "two.csv", *url).exit_code == 1


def test_config_says_where_a_setting_comes_from(tmp_path, monkeypatch):
    """File, environment and flags, the later over the former."""
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


def test_the_module_is_the_same_program():
    """`python -m creemson`."""
    done = subprocess.run(
        [sys.executable, "-m", "creemson", "--version"], capture_output=True, text=True, check=True
    )
    assert __version__ in done.stdout


def test_serve_prints_one_line_and_opens_the_page(tmp_path):
    """With the page's address, once connections are accepted."""
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
    ],
)
def test_conditions_are_read(text, parts):
    """Operators as words or signs; values as JSON where they are, else as text."""
    assert parse_condition(text) == parts


def test_top_looks_once_in_a_pipe(server):
    """Figures in a table, or one line of JSON."""
    shown = run("top", "--url", server.url).stdout
    for word in ("connections", "memory", "event loop", "errors"):
        assert word in shown
    figures = json.loads(run("top", "--url", server.url, "--json", "--once").stdout)
    assert set(figures["jobs"]) == {"queued", "running", "done", "failed", "cancelled"}
    assert figures["memory_bytes"]["server"] > 10_000_000
    assert figures["uptime_s"] > 0


def test_top_without_a_server():
    """A message, not a traceback."""
    done = run("top", "--url", "ws://127.0.0.1:9/ws")
    assert (done.exit_code, "Is it running?" in done.stderr) == (1, True)
    assert run("top", "--url", "ftp://127.0.0.1/").exit_code == 2


def test_the_doctor_finds_nothing(tmp_path):
    """A line for each thing that was looked at, and exit status 0."""
    done = run("doctor", "--port", 0, "--data-dir", tmp_path / "data", "--json")
    findings = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.exit_code == 0, findings
    assert {"versions", "settings", "port", "folder", "memory", "files", "workers"} <= {
        finding["what"] for finding in findings
    }
    assert {finding["verdict"] for finding in findings} <= {"ok", "warn"}


def test_the_doctor_finds_what_is_wrong(server, tmp_path):
    """The port and the folder of a server that runs, settings that do not suffice, a missing certificate."""
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
    assert "no.pem" in wrong["TLS"]


def test_the_doctor_looks_at_certificates_and_tokens(tmp_path):
    """When the one expires, and whether there are any of the others."""
    made = trustme.CA().issue_cert(
        "localhost", not_after=datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=3)
    )
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(made.cert_chain_pems[0].bytes())
    key.write_bytes(made.private_key_pem.bytes())
    asked = [
        "doctor", "--port", 0, "--data-dir", tmp_path / "data", "--json", "--set", "auth.mode=token",
        "--set", f"server.tls_cert={chain}", "--set", f"server.tls_key={key}",
    ]  # fmt: skip
    warned = [json.loads(line) for line in run(*asked).stdout.splitlines() if '"warn"' in line]
    assert {finding["what"] for finding in warned} == {"TLS", "tokens"}
    run("token", "create", "ann", "--data-dir", tmp_path / "data")
    (tmp_path / "data" / "tokens").chmod(0o644)
    texts = [json.loads(line)["text"] for line in run(*asked).stdout.splitlines() if '"tokens"' in line]
    assert any("chmod 600" in text for text in texts)
    assert any(text.startswith("1 in ") for text in texts)


def test_tokens_are_made_listed_and_revoked(tmp_path):
    """The token alone on standard output, once; afterwards only its name and id."""
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
