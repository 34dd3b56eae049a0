"""Malicious files: bombs, absurd tables, wrong metadata. Each has a result or a clear error, soon and in little memory.

Meanwhile another client's pings are answered, and the next job works.
"""

import gzip
import itertools
import random
import subprocess
import threading
import time
import zipfile
from contextlib import contextmanager, suppress

import polars as pl
import psutil
import pytest

from creemson.formats.table import MAX_COLUMNS
from tests.servers import serving, wait_until

MEGABYTE = 2**20
MEMORY = 512 * MEGABYTE
SLACK = 256 * MEGABYTE
"""Bytes that a worker may exceed its limit by, because memory is checked ten times a second (and polars is fast)."""
SOON = 300.0
"""Seconds within which each request must end, on a busy machine."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    settings = ("--set", "processing.workers=1", "--set", f"processing.worker_memory_bytes={MEMORY}")
    with serving(tmp_path_factory.mktemp("hostile") / "data", *settings) as server:
        server.put("good.csv")
        yield server
        log = server.log.read_text()
        assert "unexpectedly" not in log
        assert "Traceback" not in log


class Watch:
    """Records the maximum memory and the longest wait for a pong."""

    def __init__(self, server):
        self._server = server
        self._process = psutil.Process(server.process.pid)
        self.before = self._process.memory_info().rss
        self.server = self.workers = 0
        self.pong = 0.0
        self._over = threading.Event()

    def look(self):
        while not self._over.wait(0.02):
            self.server = max(self.server, self._process.memory_info().rss)
            for worker in self._process.children():
                with suppress(psutil.Error):
                    used = worker.memory_info()
                    self.workers = max(self.workers, used.rss - used.shared)

    def ping(self):
        with self._server.connect() as client:
            while not self._over.wait(0.05):
                began = time.monotonic()
                assert client.ask({"type": "ping", "id": "p"})["type"] == "pong"
                self.pong = max(self.pong, time.monotonic() - began)

    @contextmanager
    def running(self):
        threads = [threading.Thread(target=target) for target in (self.look, self.ping)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()


LIMITS = itertools.count(1)
"""Each once, so that no job is answered from the cache."""


def asked(server, path, *, name=None):
    """Return the answers of the three kinds of requests to a file."""
    name = name or path.name
    target = server.data_dir / "uploads" / name
    target.hardlink_to(path)
    watch = Watch(server)
    ends = []
    with watch.running(), server.connect() as client:
        for request in (
            {"type": "columns"},
            {"type": "rows", "offset": 0, "limit": 3},
            {"type": "process", "limit": 2},
            {"type": "process", "preview": 1},
        ):
            began = time.monotonic()
            client.send({**request, "id": "x", "filename": name})
            ends.append(client.until("columns", "rows", "result", "error")[-1])
            assert time.monotonic() - began < SOON, request
    target.unlink()
    assert watch.workers < MEMORY + SLACK
    assert watch.server - watch.before < 150 * MEGABYTE
    assert watch.pong < SOON / 2
    with server.connect() as client:
        assert client.run(filename="good.csv", limit=next(LIMITS))["type"] == "result"
    assert [path for path in (server.data_dir / "outputs").iterdir() if path.name.startswith(".")] == []
    return ends


def reasons(ends):
    """Return how the requests ended: a reason, or None for a result."""
    for end in ends:
        assert end["type"] != "error" or end["code"] == 1003
    return [end.get("reason") for end in ends]


def packed(path, pieces, how):
    """Write a file through gzip or zstd, without holding it uncompressed in memory or on disk."""
    if how == "gz":
        with gzip.open(path, "wb", compresslevel=6) as stream:
            for piece in pieces:
                stream.write(piece)
        return path
    with path.open("wb") as target:
        try:
            process = subprocess.Popen(["zstd", "-q", "-c"], stdin=subprocess.PIPE, stdout=target)
        except FileNotFoundError:
            pytest.skip("there is no zstd(1)")
        for piece in pieces:
            process.stdin.write(piece)
        process.stdin.close()
        assert process.wait() == 0
    return path


# --- bombs -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("how", ["gz", "zst"])
def test_bomb_of_one_line_is_out_of_memory(server, tmp_path, how):
    """A gigabyte compressed to a megabyte or less: the single line does not fit into memory."""
    path = packed(tmp_path / f"line.csv.{how}", (b"0" * MEGABYTE for _ in range(1024)), how)
    assert path.stat().st_size < 3 * MEGABYTE
    assert reasons(asked(server, path)) == ["out_of_memory"] * 4


@pytest.mark.slow
@pytest.mark.parametrize("how", ["gz", "zst"])
def test_bomb_of_many_lines_is_refused_by_jobs(server, tmp_path, how):
    """A sample can be read; what reads everything stops at an implausible compression ratio.

    Rows are those of a job, unless the time is over before that is noticed; on a slow machine, it is over in any case.
    """
    lines = b"1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n" * 30_000
    path = packed(tmp_path / f"lines.csv.{how}", [b"a,b,c,d,e,f,g,h,i,j,k,l,m,n,o\n", *[lines] * 2_500], how)
    assert path.stat().st_size * 300 < 2500 * len(lines)
    ends = asked(server, path)
    described, rows, limited, whole = reasons(ends)
    assert (described, limited, whole) == (None, None, "unreadable_file")
    assert rows in (None, "unreadable_file", "job_timeout")
    assert "refused" in ends[3]["message"]


def workbook(path, pieces):
    """Write an Excel file with one sheet whose cells are these pieces of XML."""
    kinds = "application/vnd.openxmlformats-"
    schema = "http://schemas.openxmlformats.org/"
    relation = f"{schema}officeDocument/2006/relationships"
    relations = f'<Relationships xmlns="{schema}package/2006/relationships"><Relationship Id="rId1" Type="{relation}/%s" Target="%s"/></Relationships>'
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="{schema}package/2006/content-types">'
            f'<Default Extension="rels" ContentType="{kinds}package.relationships+xml"/>'
            f'<Override PartName="/xl/workbook.xml" ContentType="{kinds}officedocument.spreadsheetml.sheet.main+xml"/>'
            f'<Override PartName="/xl/worksheets/s.xml" ContentType="{kinds}officedocument.spreadsheetml.worksheet+xml"/>'
            "</Types>",
        )
        archive.writestr("_rels/.rels", relations % ("officeDocument", "xl/workbook.xml"))
        archive.writestr("xl/_rels/workbook.xml.rels", relations % ("worksheet", "worksheets/s.xml"))
        archive.writestr(
            "xl/workbook.xml",
            f'<workbook xmlns="{schema}spreadsheetml/2006/main" xmlns:r="{relation}">'
            '<sheets><sheet name="S" sheetId="1" r:id="rId1"/></sheets></workbook>',
        )
        with archive.open("xl/worksheets/s.xml", "w", force_zip64=True) as stream:
            stream.write(f'<worksheet xmlns="{schema}spreadsheetml/2006/main"><sheetData>'.encode())
            for piece in pieces:
                stream.write(piece)
            stream.write(b"</sheetData></worksheet>")
    return path


CELL = b'<row r="1"><c r="A1"><v>1</v></c></row>'


def test_workbook_made_by_these_tests_is_read(server, tmp_path):
    """Without malicious content it is valid."""
    path = workbook(tmp_path / "fine.xlsx", [CELL, b'<row r="2"><c r="A2"><v>2</v></c></row>'])
    assert reasons(asked(server, path)) == [None] * 4


@pytest.mark.slow
def test_workbook_bomb_is_refused(server, tmp_path):
    """Its declared size is enough to refuse it immediately."""
    path = workbook(tmp_path / "bomb.xlsx", [b"<row><c><v>1</v></c></row>" * 40_000] * 1100)
    ends = asked(server, path)
    assert reasons(ends) == ["unreadable_file"] * 4
    assert "refused" in ends[0]["message"]


@pytest.mark.slow
def test_workbook_with_huge_text_meets_the_memory_limit(server, tmp_path):
    """A gigabyte of text, below the declared size that would be refused."""
    path = workbook(
        tmp_path / "text.xlsx", [b'<row r="1"><c r="A1" t="inlineStr"><is><t>', *[b"x" * MEGABYTE] * 900]
    )
    assert set(reasons(asked(server, path))) <= {"out_of_memory", "unreadable_file"}


@pytest.mark.slow
def test_workbook_with_two_distant_cells_is_out_of_memory(server, tmp_path):
    """A kilobyte that demands half a terabyte: reported as lack of memory and not retried."""
    path = workbook(tmp_path / "far.xlsx", [CELL, b'<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'])
    assert reasons(asked(server, path)) == ["out_of_memory"] * 4


# --- absurd tables -----------------------------------------------------------------------------------


def wide(path, columns, rows):
    line = ",".join(["1"] * columns)
    path.write_text("\n".join([",".join(f"c{number}" for number in range(columns)), *[line] * rows]) + "\n")
    return path


@pytest.mark.slow
def test_hundred_thousand_columns_are_read_or_out_of_memory(server, tmp_path):
    """Other clients do not wait long; look-ups end after ten seconds, and rows may not fit a message."""
    ends = asked(server, wide(tmp_path / "wide.csv", MAX_COLUMNS, 3))
    assert set(reasons(ends[:2])) <= {None, "out_of_memory", "job_timeout", "message_too_large"}
    assert "columns" not in ends[0] or len(ends[0]["columns"]) == MAX_COLUMNS
    assert set(reasons(ends[2:])) <= {None, "out_of_memory", "message_too_large"}


@pytest.mark.slow
def test_million_columns_are_refused(server, tmp_path):
    """The first line is enough to refuse them immediately."""
    ends = asked(server, wide(tmp_path / "wider.csv", 1_000_000, 1))
    assert reasons(ends) == ["unreadable_file"] * 4
    assert "1,000,000 columns" in ends[0]["message"]


@pytest.mark.slow
def test_ndjson_with_a_key_per_object_ends(server, tmp_path):
    """In NDJSON, new columns may appear anywhere in the file."""
    path = tmp_path / "keys.ndjson"
    path.write_text("".join(f'{{"k{number // 20}-{number}": 1}}\n' for number in range(200_000)))
    assert set(reasons(asked(server, path))) <= {"unreadable_file", "out_of_memory", "job_timeout", None}


@pytest.mark.slow
@pytest.mark.parametrize(
    "head", [b"", b"a,b\n1,2\n", b'a,b\n1,"'], ids=["alone", "after lines", "within quotes"]
)
def test_line_of_a_gigabyte_is_out_of_memory(server, tmp_path, head):
    """It fits into no worker."""
    path = tmp_path / "line.csv"
    with path.open("wb") as stream:
        stream.write(head)
        for _ in range(1024):
            stream.write(b"x" * MEGABYTE)
    assert set(reasons(asked(server, path))) <= {None, "out_of_memory"}


def test_nul_bytes_are_unsupported_format(server, tmp_path):
    """They are not text."""
    path = tmp_path / "nuls.csv"
    path.write_bytes(bytes(10 * MEGABYTE))
    assert reasons(asked(server, path)) == ["unsupported_format"] * 4


NOISE = random.Random(1).randbytes(MEGABYTE)


@pytest.mark.parametrize(
    ("name", "head", "tail"),
    [
        ("noise.csv", b"", b""),
        ("noise.ndjson", b"", b""),
        ("noise.csv.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\3", b""),
        ("noise.csv.zst", b"\x28\xb5\x2f\xfd", b""),
        ("noise.parquet", b"PAR1", b"PAR1"),
        ("noise.arrow", b"ARROW1\0\0", b"ARROW1"),
        ("noise.xlsx", b"PK\x03\x04", b""),
        ("stream.arrow", b"\xff\xff\xff\xff", b""),
    ],
)
def test_noise_is_refused(server, tmp_path, name, head, tail):
    """Whatever signature it has, it is not a table, and the reason says so."""
    path = tmp_path / name
    path.write_bytes(head + NOISE + tail)
    for reason in reasons(asked(server, path)):
        assert reason in ("unreadable_file", "unsupported_format", "out_of_memory")


@pytest.mark.parametrize("name", ["empty.csv", "empty.parquet", "empty.xlsx", "empty.ndjson"])
def test_empty_file_is_reported_as_empty(server, tmp_path, name):
    """The message says that it is empty."""
    path = tmp_path / name
    path.touch()
    ends = asked(server, path)
    assert reasons(ends) == ["unreadable_file"] * 4
    assert "empty" in ends[0]["message"]


def test_parquet_with_false_metadata_ends(server, tmp_path):
    """Its footer has false lengths and sizes: there is a result or an error, and never a dead worker."""
    path = tmp_path / "true.parquet"
    pl.DataFrame({"a": range(1000), "b": ["x"] * 1000}).write_parquet(path)
    true = path.read_bytes()
    length = int.from_bytes(true[-8:-4], "little")
    rng = random.Random(1)
    lies = [
        true[:-8] + lie.to_bytes(4, "little") + b"PAR1"
        for lie in (0, length - 1, length + 7, 2**31 - 1, 2**32 - 1)
    ]
    for _ in range(40):
        lie = bytearray(true)
        for _ in range(rng.randrange(1, 4)):
            lie[rng.randrange(len(true) - 8 - length, len(true) - 8)] = rng.randrange(256)
        lies.append(bytes(lie))
    with server.connect() as client:
        for number, lie in enumerate(lies):
            name = f"lie{number}.parquet"
            (server.data_dir / "uploads" / name).write_bytes(lie)
            for request in (
                {"type": "columns"},
                {"type": "rows", "offset": 0, "limit": 3},
                {"type": "process"},
            ):
                client.send({**request, "id": "x", "filename": name})
                end = client.until("columns", "rows", "result", "error")[-1]
                assert end.get("reason") in (
                    None,
                    "unreadable_file",
                    "unsupported_format",
                    "out_of_memory",
                ), end
            (server.data_dir / "uploads" / name).unlink()


@pytest.mark.parametrize(
    ("depth", "reason"), [(50, None), (300, "unreadable_file"), (100_000, "unreadable_file")]
)
@pytest.mark.parametrize(("opening", "closing"), [('{"a":', "}"), ("[", "]")], ids=["objects", "lists"])
def test_nested_values_are_limited_in_depth(server, tmp_path, depth, reason, opening, closing):
    """Up to a limit they are read, beyond it refused."""
    path = tmp_path / "deep.ndjson"
    path.write_text(f'{{"a":{opening * depth}1{closing * depth}}}\n' * 3)
    assert reasons(asked(server, path)) == [reason] * 4


def test_unreadable_file_can_be_uploaded(server):
    """It is stored without columns: its purpose is the client's business."""
    wider = (",".join(f"c{number}" for number in range(200_000)) + "\n").encode()
    with server.connect() as client:
        for name, data in (
            ("b.csv.gz", gzip.compress(bytes(MEGABYTE))),
            ("n.parquet", b"PAR1" + NOISE),
            ("w.csv", wider),
        ):
            done = client.upload(name, data)
            assert (done["type"], done["size"], done["columns"]) == ("uploaded", len(data), [])
            assert client.ask({"type": "delete", "id": "d", "filename": name})["type"] == "deleted"
    wait_until(lambda: 2 <= len(server.workers()) <= 4)  # two start when they are needed
