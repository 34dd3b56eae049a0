"""Three servers that share their files and jobs, each of which may die and come back; and what the database saw."""

import itertools
import json
import math
import signal
import time
from collections import defaultdict
from contextlib import ExitStack, contextmanager

import attrs
import boto3
import psycopg

from creemson.catalog.objects import ObjectRow
from creemson.catalog.shared.leases import RESTART_TIME
from creemson.storage.objects.address import split_url
from creemson.storage.objects.part import objects_of
from creemson.storage.objects.probe import OWNER
from tests.databases import postgres
from tests.objectstores import free_port, moto
from tests.servers import PATIENCE, serving, wait_until

WATCH = """
CREATE TABLE seen (
    number BIGSERIAL PRIMARY KEY, job TEXT, owner TEXT, epoch INTEGER, before TEXT, state TEXT, at DOUBLE PRECISION
);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF TG_OP = 'INSERT' OR (OLD.state, OLD.epoch, OLD.owner) IS DISTINCT FROM (NEW.state, NEW.epoch, NEW.owner) THEN
        INSERT INTO creemson.seen (job, owner, epoch, before, state, at) VALUES (
            NEW.id, NEW.owner, NEW.epoch, CASE WHEN TG_OP = 'UPDATE' THEN OLD.state END, NEW.state,
            extract(epoch FROM clock_timestamp())
        );
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER see AFTER INSERT OR UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION see();
"""
"""Lets the database write down each change of whose a job is, and of its state."""
IS_OLD = "SELECT pg_postmaster_start_time() < now() - make_interval(secs => %s)"
"""Whether the database started more than some seconds ago."""


@attrs.frozen
class Seen:
    """A change of a job."""

    job: str
    owner: str | None
    epoch: int
    before: str | None
    state: str
    at: float


class Member:
    """A server that dies, or stops for a while, and comes back on the same port."""

    def __init__(self, folder, *settings, env):
        self.port = free_port()
        self.url = f"ws://127.0.0.1:{self.port}/ws"
        self.server = None
        self.id = None  # of the process, in the rows of its jobs
        self.logs = []
        self._folder = folder
        self._options = list(itertools.chain.from_iterable(("--set", setting) for setting in settings))
        self._env = env
        self._stack = ExitStack()
        self._starts = itertools.count()

    def start(self):
        folder = self._folder / str(next(self._starts))  # each with a log of its own, to be read at the end
        options = ("--port", str(self.port), *self._options)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.server = self._stack.enter_context(serving(folder, *options, env=self._env))
                break
            except AssertionError as refused:
                # Without its database, a server says so and ends; a supervisor would start it again.
                words = str(refused)
                if "the catalog" not in words or "Traceback" in words or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        self.logs.append(self.server.log)
        wait_until(self._tells_id)

    def _tells_id(self):
        """Read the id from the log, which is written in the background; return whether it is there."""
        for line in self.server.log.read_text().splitlines(keepends=True):
            if line.endswith("\n") and (entry := json.loads(line))["event"] == "serving":
                self.id = entry["server"]
                return True
        return False

    def end(self, sign):
        self.server.process.send_signal(sign)
        self.server.process.wait()

    def revive(self):
        """Start it again; the context of the dead one only has a log to close."""
        self._stack.close()
        self.start()

    def die(self, sign):
        self.end(sign)
        self.revive()

    def stop_for(self, seconds):
        """Stop the process, as a machine that sleeps does."""
        self.server.process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            self.server.process.send_signal(signal.SIGCONT)

    def close(self):
        self._stack.close()


class Fleet:
    """The servers, and the database and the object store that they share."""

    def __init__(self, folder, database, store, *settings, count=3):
        self.database, self.store = database, store
        self.catalog, self.bucket = database.url(), store.bucket()
        shared = (f"catalog.url={self.catalog}", f"storage.url={self.bucket}", *settings)
        self.members = []
        for number in range(count):
            place = folder / f"server-{number}"
            place.mkdir(parents=True)
            self.members.append(Member(place, *shared, env=store.environment))

    @property
    def urls(self):
        return [member.url for member in self.members]

    def start(self):
        for member in self.members:
            member.start()
        with self.database_connection() as connection:
            connection.execute(WATCH)

    def close(self):
        for member in self.members:
            member.close()

    @contextmanager
    def database_connection(self):
        with psycopg.connect(self.catalog, autocommit=True) as connection:
            connection.execute("SET search_path = creemson")
            yield connection

    def sql(self, statement, *parameters):
        """Run a query; again if the database is restarting."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with self.database_connection() as connection:
                    return connection.execute(statement, parameters).fetchall()
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def owned(self, member):
        """Return the epochs of the unfinished jobs of a server, by job."""
        return dict(self.sql("SELECT id, epoch FROM jobs WHERE owner = %s AND state = 'queued'", member.id))

    def history(self):
        """Return what the database saw of each job."""
        found = defaultdict(list)
        columns = ", ".join(attrs.fields_dict(Seen))
        for row in self.sql(f"SELECT {columns} FROM seen ORDER BY number"):
            found[row[0]].append(Seen(*row))
        return found

    def check_history(self):
        """Check that each job ended once, by the owner of its last epoch, and return the changes by job."""
        history = self.history()
        for changes in history.values():
            ends = [change for change in changes if change.state != "queued"]
            assert len(ends) == 1, changes
            [end] = ends
            claims = {
                change.epoch: change.owner
                for change in changes
                if change.owner is not None and change is not end
            }
            assert end is changes[-1], changes
            assert (end.state, end.epoch, end.owner) == ("done", max(claims), claims[max(claims)]), changes
            assert len({change.owner for change in changes if change.epoch == end.epoch} - {None}) == 1, (
                changes
            )
        return history

    def outputs(self):
        """Return the names of the outputs that the results name, and of those that there are."""
        named = {
            json.loads(outcome)["output_data"]["filename"]
            for (outcome,) in self.sql("SELECT outcome FROM jobs")
        }
        return named, {name for (name,) in self.sql("SELECT name FROM objects WHERE kind = 'output'")}

    def pass_hour(self):
        """Let the time pass after which all objects are listed, and those without a row removed.

        No store expires just after the database has started; an hour later, it does.
        """
        wait_until(lambda: self.sql(IS_OLD, RESTART_TIME)[0][0], RESTART_TIME + PATIENCE)
        with self.database_connection() as connection:
            connection.execute("DELETE FROM facts WHERE name = 'listed'")
            connection.execute("UPDATE stores SET until = until - interval '1 hour'")
            connection.execute("UPDATE removals SET at = at - interval '1 hour'")

    def noted(self):
        """Return the names of objects that are to be removed."""
        noted = {key for (key,) in self.sql("SELECT key FROM removals")}
        return {name for name in self.present() if not noted.isdisjoint((name, *beginnings(name)))}

    def leftovers(self):
        """Return the names of the objects that no row names; check that there are all those that one names."""
        named, present = self.named(), self.present()
        assert named <= present
        return present - named

    def named(self):
        """Return the names of the objects that the rows name."""
        columns = [*attrs.fields_dict(ObjectRow)]
        rows = [
            dict(zip(columns, row, strict=True))
            for row in self.sql(f"SELECT {', '.join(columns)} FROM objects")
        ]
        return {
            name
            for row in rows
            for name, _ in objects_of(ObjectRow(**{**row, "tails": tuple(json.loads(row["tails"]))}))
        }

    def present(self):
        """Return the names of the objects that there are."""
        bucket, prefix = split_url(self.bucket)
        listed = boto3.client(
            "s3", endpoint_url=self.store.url, region_name="us-east-1", aws_access_key_id="the-access-key",
            aws_secret_access_key="the-secret-key",
        ).get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)  # fmt: skip
        found = {one["Key"].removeprefix(prefix) for page in listed for one in page.get("Contents", ())}
        return found - {OWNER}

    def check_logs(self):
        """Check that no server met an error that nobody expected."""
        for member in self.members:
            for log in member.logs:
                assert "Traceback" not in log.read_text(), log.read_text()


def beginnings(name):
    """Return what may be the key of a file that has an object."""
    parts = name.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def quantile(values, part):
    """Return the smallest value that so large a part of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(part * len(ordered)) - 1)] if ordered else math.nan


@contextmanager
def fleet(folder, *settings, **options):
    """Run three servers, with a PostgreSQL and an object store of their own, because the test restarts them."""
    with postgres() as database, moto() as store:
        servers = Fleet(folder, database, store, *settings, **options)
        try:
            servers.start()
            yield servers
        finally:
            servers.close()
