"""One of many users: connects, acts, pauses, disconnects in one way or another, reconnects."""

import asyncio
import itertools
import random
import struct
from contextlib import suppress

from tests.soak.tables import Query, Table, csv_of
from tests.soak.wire import PATIENCE, Cut, Wire

FILES = 3
"""Maximum number of files per user."""
CHUNK = 16 * 1024
WAYS = ("clean", "reset", "half")
SHARED = [Query(minimum, limit) for minimum in (0, 10, 50) for limit in (5, 40)]
"""Queries of all users on the common table."""


class User:
    """A user with one connection after another.

    Args:
        address: host and port.
        ledger: shared by all users.
        common: a table that exists already.
        number: identifies the user; with the seed it determines everything this one does.
    """

    def __init__(self, address, ledger, common, seed, number, *, think):
        self._address = address
        self._url = f"ws://{address[0]}:{address[1]}/ws"
        self.ledger = ledger
        self._common = common
        self._number = number
        self._think = think
        self.rng = random.Random(f"{seed}-{number}")
        self._counter = itertools.count()
        self._files = []
        self._orphans = []  # jobs cut off before their end, with table and query
        self._unfinished = None  # an upload that was cut off

    async def run(self, stop):
        """Act until `stop` is set, then clean up."""
        while not stop.is_set():
            async with Wire(self._url, self.ledger) as wire:
                try:
                    await self._visit(wire, stop)
                except Cut:
                    pass
                except TimeoutError:
                    self.ledger.fault("a request without an end")
        async with Wire(self._url, self.ledger) as wire:
            await self._catch_up(wire)
            for table in self._files:
                self.ledger.expect(
                    "delete", (await wire.ask("delete", "deleted", filename=table.name))["type"], "deleted"
                )
            await wire.drop("clean")

    async def _visit(self, wire, stop):
        if self.rng.random() < 0.5:
            await wire.ask("hello", "welcome", version=1, batch=True)
        await self._catch_up(wire)
        kinds, weights = zip(*ACTIONS.items(), strict=True)
        for _ in range(1 + int(self.rng.expovariate(1 / 12))):
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self.rng.expovariate(1 / self._think))
            if stop.is_set():
                break
            (kind,) = self.rng.choices(kinds, weights)
            try:
                await kind(self, wire)
            except TimeoutError:
                self.ledger.fault(f"no end of {kind.__name__}")
            self.ledger.actions[kind.__name__] += 1
        else:
            way = self.rng.choice(WAYS)
            await self._begin_and_go(wire, way)
            self.ledger.actions[f"drop_{way}"] += 1
            return
        await wire.drop("clean")

    async def _begin_and_go(self, wire, way):
        """Drop the connection with all kinds of work in progress."""
        table, query = self._common, self._own_query(self._common)
        job = await wire.start("process", "result", filename=table.name, preview=1000, **query.fields())
        if self._files:
            await wire.start("download", "downloaded", filename=self.rng.choice(self._files).name)
        table_up = self._new_table()
        upload = await self._announce(wire, table_up)
        for start in range(0, len(table_up.data) // 2, CHUNK):
            await wire.send(table_up.data[start : min(start + CHUNK, len(table_up.data) // 2)])
        if self.rng.random() < 0.7:  # otherwise it leaves before the job is accepted
            await asyncio.wait_for(asyncio.shield(job.started), PATIENCE)
        await wire.drop(way)
        if upload.id in wire.open:
            self._unfinished = table_up
        if job.id in wire.open and job.job is not None:
            self.ledger.orphans += 1
            self._orphans.append((job.job, table, query))

    async def _catch_up(self, wire):
        """Complete the work that the last drop has cut off."""
        orphans, self._orphans = self._orphans, []
        for job, table, query in orphans:
            result = await wire.ask("attach", "result", job=job)
            self._check(result, table, query)
            self.ledger.followed += 1
        if self._unfinished is not None:
            table, self._unfinished = self._unfinished, None
            await self._upload(wire, table)

    # --- actions --------------------------------------------------------------------------------

    async def ping(self, wire):
        began = asyncio.get_running_loop().time()
        await wire.ask("ping", "pong")
        self.ledger.pings.append(asyncio.get_running_loop().time() - began)

    async def same_job(self, wire):
        await self._job(wire, self._common, self.rng.choice(SHARED))

    async def unique_job(self, wire):
        table = self.rng.choice(self._files or [self._common])
        query = self._own_query(table)
        output = await self._job(wire, table, query)
        if output is not None and self.rng.random() < 0.3:
            data = await self._fetch(wire, output["final_filename_csv"])
            self.ledger.expect("a CSV output", data, csv_of(*table.answer(query)))

    async def upload(self, wire):
        while len(self._files) >= FILES:
            old = self._files.pop(0)
            answer = await wire.ask("delete", "deleted", filename=old.name)
            self.ledger.expect("delete", answer["type"], "deleted")
        await self._upload(wire, self._new_table())

    async def download(self, wire):
        table = self.rng.choice(self._files or [self._common])
        offset = self.rng.choice([0, 0, self.rng.randrange(len(table.data) + 1)])
        data = await self._fetch(wire, table.name, offset)
        self.ledger.expect(f"bytes of {table.name} from {offset} on", data, table.data[offset:])

    async def batch(self, wire):
        table = self.rng.choice(self._files or [self._common])
        pings = [wire.message("ping", "pong") for _ in range(5)]
        columns = wire.message("columns", "columns", filename=table.name)
        rows = wire.message("rows", "rows", filename=table.name, offset=3, limit=4)
        jobs = wire.message("process", "result", filename=table.name, preview=1000, **SHARED[0].fields())
        parts = [*pings, columns, rows, jobs]
        await wire.send({"type": "batch", "messages": [message for message, _ in parts]})
        *_, columns, rows, result = [await asked.result() for _, asked in parts]
        names = [column["name"] for column in columns.get("columns", ())]
        self.ledger.expect("columns", names, ["n", "key", "text"])
        self.ledger.expect("rows", rows.get("rows"), [list(row) for row in table.rows[3:7]])
        self._check(result, table, SHARED[0])

    async def cancel(self, wire):
        table = self._common
        query = self._own_query(table)
        asked = await wire.start(
            "process", "result", filename=table.name, preview=1000, on_disconnect="cancel", **query.fields()
        )
        if self.rng.random() < 0.5:
            await asyncio.sleep(self.rng.random() / 20)
        answer = await wire.ask("cancel", "cancelled", request=asked.id)
        self.ledger.expect(
            "a cancel", answer.get("reason", "cancelled") in {"cancelled", "job_not_found"}, True
        )
        end = await asked.result()
        if end["type"] == "result":
            self._check(end, table, query)
        else:
            self.ledger.expect("the end of a cancelled job", end["reason"] in {"cancelled", "busy"}, True)

    async def half_request(self, wire):
        """Begin an HTTP request or handshake on a second connection and never finish it."""
        _, writer = await asyncio.open_connection(*self._address)
        begun = self.rng.choice(
            [
                b"",
                b"GET /stat",
                b"POST /process HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{",
                b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n",
                b"GET /download/x HTTP/1.1\r\nHost: x\r\n\r\n",
            ]
        )
        writer.write(begun)
        await asyncio.sleep(self.rng.random() / 10)
        if self.rng.random() < 0.5:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SO_LINGER: a reset
            writer.transport.abort()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    # --- helpers ---------------------------------------------------------------------------------

    def _own_query(self, table):
        return Query(self.rng.randrange(len(table.rows)), self.rng.randrange(1, 400))

    def _new_table(self):
        count = next(self._counter)
        name = f"u{self._number}-{count}.csv"
        return Table(name, self.rng.randrange(20, 400), 1 + self._number * 1000 + count)

    async def _job(self, wire, table, query):
        end = await wire.ask("process", "result", filename=table.name, preview=1000, **query.fields())
        self._check(end, table, query)
        return end["data"]["output_data"] if end["type"] == "result" else None

    def _check(self, end, table, query):
        if end["type"] == "error":
            self.ledger.expect("the end of a job", end["reason"], "busy")
            return
        columns, rows = table.answer(query)
        output = end["data"]["output_data"]
        self.ledger.expect(f"columns of {query}", output["columns"], columns)
        self.ledger.expect(f"count of {query}", output["rows"], len(rows))
        self.ledger.expect(f"rows of {query}", output["preview"], rows)

    async def _announce(self, wire, table):
        return await wire.start(
            "upload",
            "uploaded",
            filename=table.name,
            size=len(table.data),
            sha256=table.sha256,
            overwrite=True,
        )

    async def _upload(self, wire, table):
        asked = await self._announce(wire, table)
        ready = await asyncio.wait_for(asyncio.shield(asked.started), PATIENCE)
        if ready["type"] == "upload_ready":
            self.ledger.resumed += ready["offset"] > 0
            for start in range(ready["offset"], len(table.data), CHUNK):
                await wire.send(table.data[start : start + CHUNK])
            self.ledger.bytes_up += len(table.data) - ready["offset"]
        done = await asked.result()
        self.ledger.expect("an upload", done.get("sha256", done), table.sha256)
        self._files.append(table)

    async def _fetch(self, wire, name, offset=0):
        asked = await wire.start("download", "downloaded", filename=name, offset=offset)
        end = await asked.result()
        self.ledger.expect("a download", end["type"], "downloaded")
        return b"".join(asked.data)


ACTIONS = {
    User.ping: 30,
    User.same_job: 12,
    User.unique_job: 12,
    User.upload: 8,
    User.download: 10,
    User.batch: 10,
    User.cancel: 5,
    User.half_request: 4,
}
"""Relative frequency of each action."""
