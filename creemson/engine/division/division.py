"""Divides a plan: what is done with some rows of the table, and with the results of all parts. Without I/O."""

from collections.abc import Sequence
from typing import Self

import attrs
import polars as pl

from creemson.engine.division.aggregates import Divided, divided
from creemson.engine.plan import Plan
from creemson.model.division import may_be_divided
from creemson.model.query import Query

__all__ = ["BLOCK_ROWS", "Division", "rows_of_part"]

BLOCK_ROWS = 100_000
"""Rows of a row group as polars writes columnar copies. A row group that belongs to two parts is read twice."""

_PRESENT = "\x00rows"
"""Hidden column with the number of rows that a part has; only without groups, where a part without rows has a row."""


def rows_of_part(rows: int, number: int, count: int, *, block: int = BLOCK_ROWS) -> tuple[int, int]:
    """Return the first row of a part, and the number of its rows; 0 if there are more parts than blocks.

    Args:
        rows: number of rows of the table.
        number: number of the part, from 0 on.
        count: number of parts.
        block: parts begin at multiples of it.

    >>> [rows_of_part(1_050_000, number, 3) for number in range(3)]
    [(0, 300000), (300000, 400000), (700000, 350000)]
    """
    blocks = -(-rows // block)
    start, stop = (min(rows, blocks * edge // count * block) for edge in (number, number + 1))
    return start, stop - start


@attrs.frozen
class Division:
    """A plan in two steps. The parts are put together in the order of their rows.

    Attributes:
        plan: the plan.
        query: its query.
        aggregates: its aggregates in two steps.
    """

    plan: Plan
    query: Query
    aggregates: Sequence[Divided]

    @classmethod
    def of(cls, plan: Plan, query: Query, schema: pl.Schema) -> Self | None:
        """Return the division of a plan; None if one worker must do it.

        Args:
            plan: the plan.
            query: its query.
            schema: the types of the columns that it reads.
        """
        if not may_be_divided(query):
            return None
        aggregates = [divided(aggregate, schema) for aggregate in plan.aggregates]
        found = [aggregate for aggregate in aggregates if aggregate is not None]
        if len(found) < len(aggregates) or not (plan.is_grouped or plan.row_columns):
            return None
        return cls(plan, query, found)

    def part(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """Apply the first step to some rows of the table, with the columns that the plan needs."""
        plan = self.plan
        if plan.conditions:
            frame = frame.filter(plan.conditions)
        if plan.is_grouped:
            columns = [
                *(
                    expression.alias(name)
                    for aggregate in self.aggregates
                    for name, expression in aggregate.parts.items()
                ),
                *plan.grouped_texts(),
            ]
            if not plan.groups:
                return frame.select(*columns, pl.len().alias(_PRESENT))
            return frame.group_by(plan.group_keys, maintain_order=True).agg(columns)
        frame = plan.distinct_rows(frame.select(plan.row_columns))
        if self.query.distinct and self.query.sort:
            return frame  # a row beyond the limit may have a double in a later part, which must not take its place
        return plan.limited(plan.sorted_rows(frame))

    def whole(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """Apply the second step to the results of all parts, one after the other."""
        plan = self.plan
        if plan.is_grouped:
            columns = [
                *(
                    aggregate.whole.alias(each.result)
                    for aggregate, each in zip(self.aggregates, plan.aggregates, strict=True)
                ),
                *plan.grouped_texts(of_parts=True),
            ]
            if plan.groups:
                frame = frame.group_by(plan.group_keys, maintain_order=True).agg(columns)
            else:
                frame = frame.filter(pl.col(_PRESENT) > 0).select(columns)
        return plan.finished(frame)
