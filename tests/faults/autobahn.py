"""Runs cases of the Autobahn test suite with kosoku and prints the results as JSON.

``python -m tests.faults.autobahn URL CASE...``; without cases, it prints all case ids. It is a separate process
because kosoku needs asyncio, and changes ``sys.path`` and ``binascii`` for the old code of the cases.
"""

import asyncio
import json
import os
import sys

from kosoku import FailureError, run_fuzzingclient
from kosoku.cases import CASES

TOGETHER = 4
"""Concurrent cases: some consist of waiting."""


async def verdicts(url: str, cases: list[str]) -> dict[str, dict[str, object]]:
    """Run the cases and return the result of each."""
    try:
        results = await run_fuzzingclient(url, cases, concurrency=TOGETHER)
    except FailureError as failure:  # it has the results of all cases
        results = failure.results
    return {
        result.case_id: {
            "behavior": result.behavior.value,
            "closing": result.behavior_close.value,
            "code": result.remote_close_code,
            "codes": (result.expected_close or {}).get("closeCode"),
            "said": f"{result.expectation} {result.result} {result.result_close}",
        }
        for result in results
    }


if __name__ == "__main__":
    url, *cases = sys.argv[1:]
    print(json.dumps(asyncio.run(verdicts(url, cases)) if cases else list(CASES)), flush=True)  # noqa: T201
    os._exit(0)  # kosoku 0.1.0 sometimes aborts the interpreter at exit
