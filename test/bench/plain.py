"""What one would write without dspex: DSPy in an asyncio program, with DSPy's engine made by hand for many connections.

Says "ready" when everything is imported, waits for a line, then runs `count` predicts with `window` in flight and prints
the seconds that they took. It ends with its standard input.
"""

import asyncio
import sys
import time

import dspy
from dspy import lm15
from dspy.clients.engines import AsyncLM15Engine, LM15Engine


def model(base: str) -> dspy.LM:
    access = lm15.AccessPolicy(
        provider="many", supports=lm15.EndpointSupport(complete=True, stream=True), auth_modes=("bearer",), base_url=base
    )
    compat = lm15.OpenAIChatCompat(instruction_role="system", max_tokens_field="max_tokens", stream_usage="include")
    provider = lm15.ProviderDefinition.chat(access, compat=compat, placeholder_key="none")
    config = lm15.RouterConfig(providers=(provider,), max_connections=1000, env={})
    return dspy.LM("many/echo", engine=LM15Engine(config), async_engine=AsyncLM15Engine(config), cache=False, num_retries=0)


async def main(base: str, window: int, count: int) -> None:
    lm = model(base)
    program = dspy.Predict("question -> answer")
    left = iter(range(count))

    async def one_after_the_other() -> None:
        for n in left:
            answer = await program.acall(question=f"Question {n}?", lm=lm)
            assert answer.answer

    await program.acall(question="warm?", lm=lm)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    began = time.perf_counter()
    await asyncio.gather(*(one_after_the_other() for _ in range(window)))
    print("took", time.perf_counter() - began, flush=True)
    await asyncio.to_thread(sys.stdin.read)


dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
dspy.configure(adapter=dspy.ChatAdapter(), disable_history=True, warn_on_type_mismatch=False, trace=None)
asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
