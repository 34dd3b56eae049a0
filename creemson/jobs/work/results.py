"""What workers return, and the results of jobs that are made of it."""

from collections.abc import Mapping
from typing import Any, TypeVar

from creemson.errors import InvalidFormat
from creemson.model.converter import structure
from creemson.model.results import OUTPUT_FORMATS, OutputData, ResultData
from creemson.storage.names import NORMALIZED

__all__ = ["result_of_worker", "structure_trusted"]

SUMMARY = "File processed successfully"
"""The summary of every result."""

T = TypeVar("T")


def structure_trusted(value: Any, kind: type[T]) -> T:
    """Structure a value that a worker has returned.

    Raises:
        TypeError: it does not fit; this is a bug in the worker, not a fault of the request.
    """
    try:
        return structure(value, kind)
    except InvalidFormat as error:
        raise TypeError(error.message) from error


def result_of_worker(output: str, outcome: Mapping[str, Any], *, elapsed: float) -> ResultData:
    """Return the result of a job.

    Args:
        output: name of its output.
        outcome: the value that the worker returned.
        elapsed: seconds that the attempt took.
    """
    stem = output.removesuffix(f".{OUTPUT_FORMATS[0]}")
    data = {
        **outcome,
        "filename": output,
        "final_filename_csv": f"{stem}.csv",
        "final_filename_csv_normalized": f"{stem}.{NORMALIZED}",
        "final_filename_excel": f"{stem}.xlsx",
        "elapsed_s": round(elapsed, 4),
        "cached": False,
    }
    return ResultData(summary=SUMMARY, output_data=structure_trusted(data, OutputData))
