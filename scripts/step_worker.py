"""A process that measures one framework's rows for scripts/benchmark_step.py.

It reads requests from stdin and answers on stdout, a line of JSON each:
{"peaks": true}, {"prepare": ROW}, {"measure": SECONDS}.
"""

import dataclasses
import json
import os
import sys
from typing import Any

from scripts.step_rows import Row


def main(framework: str) -> None:
    """Answer requests until stdin ends."""
    # What libraries print goes to stderr.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    if framework == "jax":
        from scripts.step_jax import JaxSteps as Steps
    else:
        from scripts.step_torch import TorchSteps as Steps
    steps = Steps()
    print(
        json.dumps({"about": steps.describe(), "platform": steps.platform()}),
        file=answers,
    )
    for line in sys.stdin:
        try:
            answer = _answer(steps, json.loads(line))
        except Exception as error:  # a row that fails must not end the others
            answer = {"error": _reason(error)}
        print(json.dumps(answer), file=answers)


def _answer(steps: Any, request: dict[str, Any]) -> dict[str, Any]:
    if "peaks" in request:
        return dataclasses.asdict(steps.peaks())
    if "prepare" in request:
        return dataclasses.asdict(steps.prepare(Row(**request["prepare"])))
    return {"seconds": steps.measure(request["measure"])}


def _reason(error: Exception) -> str:
    text = f"{type(error).__name__} {error}"
    if "RESOURCE_EXHAUSTED" in text or "OutOfMemory" in text or "out of memory" in text.lower():
        return "out of memory"
    sys.stderr.write(f"{text}\n")
    return f"{type(error).__name__}: {(str(error).strip() or 'no reason').splitlines()[0][:80]}"


if __name__ == "__main__":
    main(sys.argv[1])
