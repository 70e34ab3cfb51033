"""What the scripts have in common: where graft is, and a line of JSON a check for test/interop/clients/run-client.ts."""

import asyncio
import inspect
import json
import os

BASE_URL = os.environ["BASE_URL"]
API_KEY = os.environ["API_KEY"]
MODEL = os.environ["MODEL"]
# Beyond the context of 8,192 tokens of one byte each.
TOO_LONG = "x" * 20_000
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}


class NotThere(Exception):
    """The client has no such thing."""


def raises(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def run(*checks):
    """A check that returns a text has passed under the condition that it says."""
    for check in checks:
        result = "ok"
        try:
            answer = check()
            why = (asyncio.run(answer) if inspect.isawaitable(answer) else answer) or ""
        except NotThere as reason:
            result, why = "none", str(reason)
        except Exception as error:  # every check is told, whatever went wrong
            result, why = "failed", f"{type(error).__name__}: {error}"[:600]
        print(json.dumps({"check": check.__name__, "result": result, "why": why}), flush=True)
