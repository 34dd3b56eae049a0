"""Small tables, and what queries on them have to give, worked out without the code under test."""

import hashlib

import attrs

COLUMNS = ("n", "key", "text")


@attrs.frozen
class Query:
    """Rows with ``n`` >= ``least``, by ``key`` from the greatest down, the first ``most`` of them."""

    least: int
    most: int

    def fields(self):
        return {
            "selectedColumns": ["text", 0, "key"],
            "where": [["n", ">=", self.least]],
            "sort": [["key", "desc"]],
            "limit": self.most,
        }


class Table:
    """A CSV file whose keys are all different, so that a sorting has one outcome."""

    def __init__(self, name, rows, seed):
        self.name = name
        step = 2 * seed + 7919  # odd, and so without a common factor with the power of two
        self.rows = [(n, n * step % 2**20, f"x{n * seed % 1009}") for n in range(rows)]
        self.data = csv_of(COLUMNS, self.rows)
        self.sha256 = hashlib.sha256(self.data).hexdigest()

    def answer(self, query):
        """The columns and rows of a query."""
        found = sorted((row for row in self.rows if row[0] >= query.least), key=lambda row: -row[1])
        return ["text", "n", "key"], [[text, n, key] for n, key, text in found[: query.most]]


def csv_of(columns, rows):
    """Cells without anything to quote, as CSV."""
    return "".join(",".join(map(str, line)) + "\n" for line in (columns, *rows)).encode()
