"""Runs the twenty programs as a script does, in plain DSPy: plain.py ADDRESS. One JSON line for each; without an address, their inputs."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from typing import Any

import dspy
from dspy import lm15
from twenty import PROGRAMS

from dspex_worker.signatures.plain import to_wire


def model(address: str) -> Any:
    """A server of one's own, declared as DSPy has it done."""
    access = lm15.AccessPolicy(
        provider="llamacpp-here", supports=lm15.EndpointSupport(complete=True, stream=True), auth_modes=("bearer",), base_url=address
    )
    compat = lm15.OpenAIChatCompat(instruction_role="system", max_tokens_field="max_tokens", stream_usage="include", thinking_format="none")
    definition = lm15.ProviderDefinition.chat(access, compat=compat, placeholder_key="none")
    lm15.register_provider(definition, supports=lm15.ModelSupport(response_schema=True))
    return dspy.LM("llamacpp-here/gemma", temperature=0, max_tokens=48, cache=False, num_retries=0)


def run(name: str) -> dict[str, Any]:
    """One program."""
    target, inputs = PROGRAMS[name]
    found = target() if isinstance(target, type) else target
    try:
        given = {key: _given(key, value) for key, value in inputs.items()}
        result = found(**given) if hasattr(found, "forward") else asyncio.run(found.acall(**given))
    except Exception as error:
        return {"failure": type(error).__name__}
    return {"result": to_wire(result)}


def _given(key: str, value: Any) -> Any:
    return dspy.History(**value) if key == "history" else value


def main() -> None:
    """All of them."""
    if len(sys.argv) == 1:
        for name, (_, inputs) in PROGRAMS.items():
            print(json.dumps({"program": name, "inputs": inputs}))
        return
    logging.disable(logging.CRITICAL)
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    dspy.configure(lm=model(sys.argv[1]))
    for name in PROGRAMS:
        print(json.dumps({"program": name, **run(name)}), flush=True)


if __name__ == "__main__":
    main()
