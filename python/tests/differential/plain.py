"""Runs the cases as scripts do: plain DSPy, one fresh process each. Prints one JSON line for each: result or class of failure.

python -m tests.differential.plain BASE_URL
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import logging
import os
import sys
import warnings
from typing import Any

import dspy
import dspy.clients.model_metadata

from dspex_worker.protocol.wire import EncodeError
from dspex_worker.signatures.plain import to_wire
from tests.differential import MODULES
from tests.differential.case import CASES, from_plain


def run(name: str, base: str) -> dict[str, Any]:
    """One case, in this process."""
    entry = CASES[name]
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    lm = dspy.LM("openai/echo", api_base=f"{base}/plain/{name}/v1", api_key="sk-test-0123456789abcdef", cache=False, num_retries=0)
    dspy.configure(lm=lm)
    target = entry.target() if isinstance(entry.target, type) else entry.target
    inputs = from_plain(entry.inputs, name)
    try:
        if inspect.iscoroutinefunction(target):
            found = asyncio.run(target(**inputs))
        elif isinstance(target, dspy.Module) and not hasattr(target, "forward"):
            found = asyncio.run(target.acall(**inputs))
        else:
            found = target(**inputs)
    except Exception as error:
        return {"failure": type(error).__name__}
    try:
        plain = to_wire(found)
    except EncodeError as error:
        return {"failure": f"EncodeError {error}"}
    return {"result": plain if isinstance(plain, dict) else {"output": plain}}


def main() -> None:
    """All cases."""
    base = sys.argv[1]
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    for module in MODULES:
        importlib.import_module(module)
    # DSPy's price list: the one that it brings, not a newer one from the network, and read once for all.
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    dspy.clients.model_metadata.model_info("openai-chat", "gpt-4o-mini")
    sys.stdout.flush()
    for name in CASES:
        child = os.fork()
        if child == 0:
            out = os.dup(1)
            os.dup2(2, 1)  # progress bars and inspect_history print
            try:
                os.write(out, json.dumps({"case": name, **run(name, base)}).encode() + b"\n")
            finally:
                os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
