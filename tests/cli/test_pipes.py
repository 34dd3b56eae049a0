"""Commands in pipes: standard input and output, and what ends them."""

import contextlib
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from tests.servers import SAMPLE

CREEMSON = [sys.executable, "-m", "creemson"]
FAST = ["--set", "processing.workers=1"]
HEADER = b"species,island,bill_length_mm,bill_depth_mm,flipper_length_mm,body_mass_g,sex,year"


@pytest.fixture(autouse=True)
def isolated_folder(tmp_path, monkeypatch):
    """Run in an empty folder, without the settings of whoever runs the tests."""
    monkeypatch.chdir(tmp_path)
    for name in ("CREEMSON_TOKEN", "CREEMSON_URL"):
        monkeypatch.delenv(name, raising=False)


def run(*arguments, **options):
    """Run the program as a shell does."""
    command = [*CREEMSON, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, timeout=120, **options)


def shell(text, **options):
    """Run a line of bash, in which `creemson` is the program."""
    program = f'creemson() {{ {" ".join(CREEMSON)} "$@"; }}; set -o pipefail; '
    return subprocess.run(["bash", "-c", program + text], capture_output=True, timeout=120, **options)


def test_standard_input_is_processed_and_all_rows_go_to_standard_output(server):
    """As CSV, without a figure or a bar; the upload does not stay on the server."""
    done = run("process", "-", "--columns", "year,species", "--url", server.url, input=SAMPLE.read_bytes())
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.splitlines()
    assert (lines[:2], len(lines)) == ([b"year,species", b"2007,Adelie"], 345)
    files = run("files", "--json", "--url", server.url).stdout
    assert b"stdin" not in files


def test_standard_output_takes_every_format(server, tmp_path):
    """`--output -` is standard output; the format is that of --format."""
    url = ["--url", server.url, "--limit", "1", "--columns", "species,year"]
    expected = {
        "csv": b"species,year\nAdelie,2007\n",
        "tsv": b"species\tyear\nAdelie\t2007\n",
        "ndjson": b'{"species":"Adelie","year":2007}\n',
    }
    for kind, content in expected.items():
        assert run("process", SAMPLE, "--output", "-", "--format", kind, *url).stdout == content
    for kind, magic in {"parquet": b"PAR1", "arrow": b"ARROW1", "xlsx": b"PK"}.items():
        assert run("process", SAMPLE, "--format", kind, *url).stdout.startswith(magic)
    assert run("process", SAMPLE, "--output", "-", *url).stdout == expected["csv"]
    assert list(tmp_path.iterdir()) == []
    assert run("process", SAMPLE, "--output", "out.tsv", *url).returncode == 0
    assert Path("out.tsv").read_bytes() == expected["tsv"]
    done = run("process", SAMPLE, "--output", "/dev/stdout", "--format", "csv", *url)
    assert done.stdout.startswith(expected["csv"])
    with Path("appended.csv").open("ab") as target:  # a redirection, which must not replace the file
        target.write(b"before\n")
        target.flush()
        subprocess.run([*CREEMSON, "process", str(SAMPLE), *url], stdout=target, check=True, timeout=120)
    assert Path("appended.csv").read_bytes() == b"before\n" + expected["csv"]


def test_file_on_the_server_is_downloaded_to_standard_output(server):
    """`download -o -` writes the bytes, and nothing else."""
    server.put("piped.csv")
    done = run("download", "piped.csv", "-o", "-", "--url", server.url)
    assert done.stdout == SAMPLE.read_bytes()


def test_tsv_and_pipes_of_the_shell_are_read(server):
    """--input-format tsv; <(command) is read like standard input."""
    done = run("process", "-", "--input-format", "tsv", "--url", server.url, input=b"a b\tc\n1 2\t3\n")
    assert done.stdout == b"a b,c\n1 2,3\n"
    done = shell(f"creemson process <(head -2 {SAMPLE}) --columns year --url {server.url}")
    assert (done.stdout, done.stderr) == (b"year\n2007\n", b"")


def test_reader_that_stops_early_ends_the_command_quietly(server):
    """As for other tools: exit status 0 or 141, and no message."""
    done = shell(
        f"creemson process - --columns year,species --url {server.url} < {SAMPLE} | head -1; echo ${{PIPESTATUS[0]}}"
    )
    first, status = done.stdout.split()
    assert (first, done.stderr) == (b"year,species", b"")
    assert status in (b"0", b"141")
    for command in ("files", "columns example.csv"):
        done = shell(f"creemson {command} --url {server.url} | true; echo ${{PIPESTATUS[0]}}")
        assert (done.stdout.strip() in (b"0", b"141"), done.stderr) == (True, b"")


def test_closed_standard_output_gives_141(server):
    """When the reader has certainly gone."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*CREEMSON, "process", str(SAMPLE), "--url", server.url],
        stdout=writing,
        stderr=subprocess.PIPE,
        timeout=120,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    "arguments", [["process", SAMPLE], ["files"], ["columns", "example.csv"], ["jobs", "--json"]]
)
def test_full_standard_output_is_an_error_and_no_traceback(server, arguments):
    """/dev/full."""
    with Path("/dev/full").open("wb") as full:
        command = [*CREEMSON, *map(str, arguments), "--url", server.url]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=120)
    assert done.returncode == 1
    assert done.stderr.startswith(b"creemson: No space left on device")
    assert b"Traceback" not in done.stderr


def test_several_files_are_processed_alike(server, tmp_path):
    """Into a folder; a failing one does not keep the others from being processed."""
    for name in ("one", "two"):
        Path(f"{name}.csv").write_text(f"a,b\n{name},1\n")
    Path("bad.csv").write_text("x\n1\n")
    Path("out").mkdir()
    done = run("process", "*.csv", "--columns", "a", "--output", "out/", "--url", server.url)
    assert done.returncode == 1
    assert b"bad.csv: --columns: There is no column 'a'" in done.stderr
    assert sorted(path.name for path in Path("out").iterdir()) == ["one.csv", "two.csv"]
    assert Path("out/two.csv").read_text() == "a\ntwo\n"
    done = run("process", "one.csv", "two.csv", "--json", "--url", server.url)
    assert [json.loads(line)["output_data"]["rows"] for line in done.stdout.splitlines()] == [1, 1]
    done = run("process", "one.csv", "two.csv", "--format", "table", "--url", server.url)
    assert [line for line in done.stdout.decode().splitlines() if line.endswith(".csv")] == [
        "one.csv",
        "two.csv",
    ]


@pytest.mark.parametrize("files", [["one.csv"], ["on*.csv"], ["one.csv", "two.csv"]])
@pytest.mark.parametrize("exists", [True, False])
def test_output_with_a_slash_at_its_end_is_a_folder(server, tmp_path, files, exists):
    """It is created; a pattern may match one file today, and several tomorrow."""
    for name in ("one", "two"):
        Path(f"{name}.csv").write_text(f"a\n{name}\n")
    if exists:
        Path("out").mkdir()
    done = run("process", *files, "--output", "out/", "--format", "ndjson", "--url", server.url)
    assert done.returncode == 0, done.stderr
    assert Path("out/one.ndjson").read_text() == '{"a":"one"}\n'
    assert len(list(Path("out").iterdir())) == len(files)


def test_input_in_the_folder_of_the_output_is_not_replaced(server, tmp_path):
    Path("one.csv").write_text("a\n1\n")
    done = run("process", "one.csv", "--output", ".", "--url", server.url)
    assert done.returncode == 2
    assert b"'one.csv' would be replaced by its result" in done.stderr


def test_rejects_are_kept_beside_the_output(tmp_path):
    """Also if the temporary server, which has them, is gone."""
    Path("messy.csv").write_text("id;x\n1;2,5\n2\n3;4,5\n")
    done = run("process", "messy.csv", "--output", "out.parquet", *FAST)
    assert done.returncode == 0
    assert b"all issues: out.rejects.csv" in done.stderr
    assert "has 1 of 2 cells" in Path("out.rejects.csv").read_text()
    done = run("process", "messy.csv", *FAST)
    assert done.stdout == b'id,x\n1,"2,5"\n2,\n3,"4,5"\n'
    assert b"1 row padded" in done.stderr
    assert b"all issues" not in done.stderr


@pytest.mark.parametrize("address", ["{base}", "{base}/", "{base}/ws", "{url}", "ws://127.0.0.1:{port}"])
def test_address_is_taken_in_every_form_and_from_the_environment(server, address):
    """http or ws, with or without /ws; CREEMSON_URL works for every command."""
    url = address.format(base=server.base, url=server.url, port=server.port)
    for command in (
        ["files"],
        ["columns", "example.csv"],
        ["top", "--once"],
        ["process", str(SAMPLE), "--limit", "1"],
    ):
        done = run(*command, env={**os.environ, "CREEMSON_URL": url})
        assert (done.returncode, done.stderr) == (0, b""), command


@pytest.mark.slow
def test_memory_does_not_depend_on_the_size_of_standard_input(tmp_path):
    """Of the command and of the worker, beside the pages of the input, which the system can drop."""
    line = b"12345,some text of a cell,67.125,more text that is not needed at all\n"
    largest = {}

    def watch(command):
        while command.poll() is None:
            for pid in [
                command.pid,
                *(child.pid for child in psutil.Process(command.pid).children(recursive=True)),
            ]:
                with contextlib.suppress(OSError, TypeError):  # it has just ended
                    status = Path(f"/proc/{pid}/status").read_text()
                    used = int(re.search(r"RssAnon:\s+(\d+)", status)[1]) // 1024
                    largest[pid] = max(largest.get(pid, 0), used)
            time.sleep(0.05)

    environment = {**os.environ, "POLARS_MAX_THREADS": "2"}
    command = subprocess.Popen(
        [*CREEMSON, "process", "-", "--columns", "a,c"],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment,
    )  # fmt: skip
    watcher = threading.Thread(target=watch, args=[command])
    watcher.start()
    with command.stdin as stream:
        stream.write(b"a,b,c,d\n")
        for _ in range(800):  # 550 MB
            stream.write(line * 10_000)
    assert command.wait(600) == 0
    watcher.join()
    assert largest[command.pid] < 120
    assert max(largest.values()) < 500


def test_address_of_another_server_is_an_error_in_words():
    """A web server without WebSocket, or behind a proxy that removes the header Upgrade; no WebSocket address."""

    def answer():
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer)
        thread.start()
        done = run("files", "--url", f"http://127.0.0.1:{listener.getsockname()[1]}")
        thread.join()
    assert done.returncode == 1
    assert (
        b"(it responds with HTTP 200 and no WebSocket; a proxy must pass on the header Upgrade)"
        in done.stderr
    )
    assert b"an address looks like http://HOST:PORT" in run("files", "--url", "localhost:8000").stderr


def test_condition_that_can_never_hold_is_told(server):
    """On standard error, if there are no rows."""
    done = run("process", SAMPLE, "--where", "year == 2007.5", "--where", "year > 1", "--url", server.url)
    assert done.returncode == 0
    assert done.stdout.splitlines() == [HEADER]
    assert done.stderr.decode().splitlines() == [
        "creemson: --where 'year == 2007.5' can never hold: 'year' has whole numbers only (Int64)."
    ]


@pytest.mark.parametrize("module", ["process", "processing"])
def test_interrupt_while_modules_are_imported_ends_without_a_traceback(module):
    """Ctrl-C in the first moments, before or after the worker was started: the program ends by the signal."""
    code = (
        "import os, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == 'creemson.cli.{module}': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        f"sys.argv = ['creemson', 'process', {str(SAMPLE)!r}]\n"
        "from creemson.__main__ import run; run()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, b"")


def test_columns_of_a_local_file_need_no_server():
    """Of a file, and of standard input."""
    for arguments, content in ((["columns", SAMPLE], None), (["columns", "-"], SAMPLE.read_bytes())):
        done = run(*arguments, "--json", input=content)
        assert (done.returncode, done.stderr) == (0, b"")
        assert json.loads(done.stdout.splitlines()[2])["name"] == "bill_length_mm"


def test_terminal_gets_a_table_and_no_binary_format(server):
    """Standard output is a terminal: the first rows are shown."""
    controller, terminal = pty.openpty()
    shown = []

    def read():
        try:
            while data := os.read(controller, 65536):
                shown.append(data)
        except OSError:  # the other side is closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    command = [*CREEMSON, "process", str(SAMPLE), "--limit", "2", "--url", server.url]
    done = subprocess.run(command, stdout=terminal, stderr=subprocess.PIPE, timeout=120)
    refused = subprocess.run(
        [*command, "--format", "parquet"], stdout=terminal, stderr=subprocess.PIPE, timeout=120
    )
    os.close(terminal)
    reader.join()
    os.close(controller)
    assert (done.returncode, refused.returncode) == (0, 2)
    assert "┃" in b"".join(shown).decode()
    assert b"2 rows" in b"".join(shown)
    assert b"parquet is not for a terminal" in refused.stderr


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(name):
    """For each shell."""
    done = run("completion", name)
    assert done.returncode == 0
    assert b"_CREEMSON_COMPLETE" in done.stdout


def test_completion_offers_commands_options_and_formats():
    """What the script of bash asks for."""
    for words, expected in (
        ("creemson pro", "process"),
        ("creemson process --form", "--format"),
        ("creemson completion z", "zsh"),
    ):
        environment = {
            "_CREEMSON_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(words.count(" ")),
        }
        code = "import sys; sys.argv = ['creemson']; from creemson.__main__ import run; run()"
        done = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True
        )
        assert f"plain,{expected}" in done.stdout.splitlines()
