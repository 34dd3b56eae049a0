"""Small tables, and the expected results of queries on them, computed without the code under test."""

import hashlib

import attrs

COLUMNS = ("n", "key", "text")


@attrs.frozen
class Query:
    """The first ``limit`` rows with ``n`` >= ``minimum``, in descending order of ``key``."""

    minimum: int
    limit: int

    def fields(self):
        return {
            "selectedColumns": ["text", 0, "key"],
            "where": [["n", ">=", self.minimum]],
            "sort": [["key", "desc"]],
            "limit": self.limit,
        }


class Table:
    """A CSV file with unique keys, so that a sort has only one result."""

    def __init__(self, name, rows, seed):
        self.name = name
        step = 2 * seed + 7919  # odd, so it has no common factor with the power of two
        self.rows = [(n, n * step % 2**20, f"x{n * seed % 1009}") for n in range(rows)]
        self.data = csv_of(COLUMNS, self.rows)
        self.sha256 = hashlib.sha256(self.data).hexdigest()

    def answer(self, query):
        """Return the columns and rows of a query's result."""
        found = sorted((row for row in self.rows if row[0] >= query.minimum), key=lambda row: -row[1])
        return ["text", "n", "key"], [[text, n, key] for n, key, text in found[: query.limit]]


def csv_of(columns, rows):
    """Return CSV of cells that need no quotes."""
    return "".join(",".join(map(str, line)) + "\n" for line in (columns, *rows)).encode()
