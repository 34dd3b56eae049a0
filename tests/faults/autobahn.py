"""Runs cases of the Autobahn test suite, with kosoku, and prints what came of them as JSON.

``python -m tests.faults.autobahn URL CASE...``; without cases, the ids of all that there are. In a process of
its own because kosoku wants asyncio, and changes ``sys.path`` and ``binascii`` for the old code of the cases.
"""

import asyncio
import json
import os
import sys

from kosoku import FailureError, run_fuzzingclient
from kosoku.cases import CASES

TOGETHER = 4
"""Cases at the same time: some consist of waiting."""


async def verdicts(url: str, cases: list[str]) -> dict[str, dict[str, object]]:
    """What came of each case."""
    try:
        results = await run_fuzzingclient(url, cases, concurrency=TOGETHER)
    except FailureError as failure:  # has the results of all cases
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
    os._exit(0)  # kosoku 0.1.0 sometimes aborts the interpreter while it ends
