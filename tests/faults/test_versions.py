"""Files that are replaced all the time: each answer belongs to one version, and a job to the one it was accepted for.

``TORN_OVERWRITES`` sets the number of overwrites, over all formats.
"""

import io
import os
import shutil
import threading

import httpx
import polars as pl
import pytest

from tests.servers import serving, wait_until

OVERWRITES = int(os.environ.get("TORN_OVERWRITES", "500"))
ROWS = 3_000
"""Rows of each version: the file is larger than what is read at once, and a job takes some milliseconds."""
SCHEMAS = 7
"""Number of different headers; the version is in the header as well, modulo this number."""


def table(version):
    """Every cell tells the version; the number of columns and rows differs, too."""
    rows = ROWS + version % 5
    columns = {f"v{version % SCHEMAS}": pl.repeat(version, rows, eager=True, dtype=pl.Int64)}
    for number in range(version % 3):
        columns[f"more{number}"] = pl.repeat(str(version) * 8, rows, eager=True)
    columns["value"] = pl.repeat(version, rows, eager=True, dtype=pl.Int64)
    return pl.DataFrame(columns)


def bytes_of(version, name):
    stream = io.BytesIO()
    write = {
        "csv": pl.DataFrame.write_csv,
        "parquet": pl.DataFrame.write_parquet,
        "arrow": pl.DataFrame.write_ipc,
        "ndjson": pl.DataFrame.write_ndjson,
        "xlsx": pl.DataFrame.write_excel,
    }[name]
    frame = table(version)
    if name == "xlsx":
        frame = frame.head(200 + version % 5)
    write(frame, stream)
    return stream.getvalue()


def check_rows(columns, rows):
    """Return the version of rows; assert that there is only one."""
    versions = {int(str(cell)[: max(1, len(str(cell)) // 8)]) if "more" in name else int(cell)
                for row in rows for name, cell in zip(columns, row, strict=True)}  # fmt: skip
    assert len(versions) == 1, (columns, versions)
    [version] = versions
    assert columns[0] == f"v{version % SCHEMAS}", (columns, version)
    assert len(columns) == 2 + version % 3
    return version


class Overwriter(threading.Thread):
    """Replaces a file as fast as it can, in turns by upload and by a rename in the folder."""

    def __init__(self, server, name, contents):
        super().__init__()
        self.server, self.name, self.contents = server, name, contents
        self.count = 0
        self.total = 0
        self.is_enough = threading.Event()  # until it is set, on a busy machine, some more are needed
        self.failure = None

    def run(self):
        try:
            with httpx.Client(timeout=60) as client:
                for number in range(20 * self.total):
                    if number >= self.total and self.is_enough.is_set():
                        break
                    content = self.contents[number % len(self.contents)]
                    if number % 2:
                        answer = client.post(
                            f"{self.server.base}/upload", files={"file": (self.name, content)}
                        )
                        assert answer.status_code == 200, answer.text
                    else:
                        aside = self.server.data_dir / f"aside-{self.name}"
                        aside.write_bytes(content)
                        aside.replace(self.server.data_dir / "uploads" / self.name)
                    self.count += 1
        except BaseException as error:
            self.failure = error


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "parquet", "arrow", "ndjson", "xlsx"])
def test_answers_of_a_file_that_is_overwritten_belong_to_one_version(tmp_path, kind):
    """Results, windows and columns, while half of the changes are made by hand."""
    contents = [bytes_of(version, kind) for version in range(1, 31)]
    name = f"a.{kind}"
    ended = {"result": 0, "rows": 0, "columns": 0}
    with serving(tmp_path / "data", "--set", "processing.workers=2") as server, server.connect() as client:
        client.upload(name, contents[0])
        overwriter = Overwriter(server, name, contents)
        overwriter.total = OVERWRITES // 5
        overwriter.start()
        limit = 0
        while overwriter.is_alive():
            limit += 1
            requests = {
                "whole": {"type": "process", "limit": 10**6 + limit, "preview": 3},
                "summed": {"type": "process", "limit": 10**6 + limit, "preview": 3, "group_by": ["value"],
                           "aggregate": [["value", "count", "n"]]},
                "rows": {"type": "rows", "offset": 100, "limit": 5},
                "columns": {"type": "columns"},
            }  # fmt: skip
            for id_, request in requests.items():
                client.send({**request, "id": id_, "filename": name})
            waiting = set(requests)
            while waiting:
                answer = client.receive()
                if answer["type"] not in (*ended, "error"):
                    continue
                waiting.discard(answer["id"])
                if answer["type"] == "error":
                    assert answer["reason"] == "file_changed", answer
                    continue
                ended[answer["type"]] += 1
                if all(ended.values()):
                    overwriter.is_enough.set()
                if answer["id"] == "whole":
                    output = answer["data"]["output_data"]
                    version = check_rows(output["columns"], output["preview"])
                    assert output["rows"] == (200 if kind == "xlsx" else ROWS) + version % 5
                    stored = pl.read_parquet(server.data_dir / "outputs" / output["filename"])
                    assert stored["value"].unique().to_list() == [version]
                    assert stored[:, 0].unique().to_list() == [version]
                elif answer["id"] == "summed":
                    [[version, count]] = answer["data"]["output_data"]["preview"]
                    assert count == (200 if kind == "xlsx" else ROWS) + version % 5
                elif answer["id"] == "rows":
                    check_rows(answer["columns"], answer["rows"])
                else:
                    names = [column["name"] for column in answer["columns"]]
                    assert names[0].startswith("v")
                    assert names[-1] == "value"
        overwriter.join()
        assert overwriter.failure is None, overwriter.failure
        assert overwriter.count >= overwriter.total
        assert all(ended.values()), ended
        assert "Traceback" not in server.log.read_text()


def waiting_job(client, name="a.csv"):
    """Return a job that waits behind another one, for a server whose workers are frozen."""
    for number, id_ in enumerate(("first", "waits"), 1):
        client.send({"type": "process", "id": id_, "filename": name, "preview": number})
    while (accepted := client.until("accepted")[-1])["id"] != "waits":
        pass
    return accepted["job"]


def end_of(client, job):
    client.send({"type": "attach", "id": "a", "job": job})
    while (end := client.until("result", "error")[-1]).get("job") != job:
        pass
    return end


def kept(server):
    return list((server.data_dir / "kept").iterdir())


@pytest.mark.parametrize(
    "change",
    [
        "upload",
        pytest.param("delete", marks=pytest.mark.slow),
        pytest.param("killed", marks=pytest.mark.slow),
    ],
)
def test_waiting_job_answers_for_the_version_it_was_accepted_for(tmp_path, change):
    """Its file is replaced or deleted while it waits, and the server may be killed; then the bytes are gone."""
    with serving(tmp_path / "data") as server, server.connect() as client, server.connect() as other:
        client.upload("a.csv", b"v\n1\n")
        with server.frozen():
            job = waiting_job(client)
            if change == "delete":
                assert other.ask({"type": "delete", "id": "d", "filename": "a.csv"})["type"] == "deleted"
            else:
                files = {"file": ("a.csv", b"v\n2\n")}
                assert httpx.post(f"{server.base}/upload", files=files).status_code == 200
            assert len(kept(server)) == 1
            if change == "killed":
                server.process.kill()
                server.process.wait()
        if change != "killed":
            ended_on_the_old_version(server, other, job)
            again = other.run(filename="a.csv", preview=9)
            assert change == "delete" or again["data"]["output_data"]["preview"] == [[2]]
    if change == "killed":
        with serving(tmp_path / "data") as server, server.connect() as client:
            ended_on_the_old_version(server, client, job)


def ended_on_the_old_version(server, client, job):
    end = end_of(client, job)
    assert end["type"] == "result", end
    assert end["data"]["output_data"]["preview"] == [[1]]
    wait_until(lambda: kept(server) == [])


def copied(source, target):
    shutil.copytree(source, target)


def linked(source, target):
    shutil.copytree(source, target, copy_function=os.link)


def without_times(source, target):
    shutil.copytree(source, target, copy_function=shutil.copyfile)


@pytest.mark.slow
@pytest.mark.parametrize("copy", [linked, copied, without_times])
def test_accepted_jobs_and_uploads_go_on_in_a_copied_data_folder(tmp_path, copy):
    """Made by ``cp -a``, ``cp -al`` or ``cp -r``: jobs find their version, results are cached, uploads are resumed."""
    size = 3 * 2**20
    begun = {"type": "upload", "id": "u", "filename": "half.bin", "size": size, "sha256": "0" * 64}
    with serving(tmp_path / "data") as server, server.connect() as client, server.connect() as up:
        client.upload("a.csv", b"v\n1\n")
        done = client.run(filename="a.csv", limit=7)["data"]["output_data"]["filename"]
        up.ask(begun)
        for _ in range(2):
            up.send(bytes(2**20))
        [part] = (server.data_dir / "parts").iterdir()
        wait_until(lambda: part.stat().st_size == 2 * 2**20)
        with server.frozen():
            job = waiting_job(client)
            server.process.kill()
            server.process.wait()
    copy(tmp_path / "data", tmp_path / "copy")
    with serving(tmp_path / "copy") as server, server.connect() as client:
        end = end_of(client, job)
        assert end["type"] == "result", end
        assert end["data"]["output_data"]["preview"] == [[1]]
        again = client.run(filename="a.csv", limit=7)["data"]["output_data"]
        assert (again["cached"], again["filename"]) == (True, done)
        assert client.ask(begun)["offset"] == 2 * 2**20
