"""What one would write without dspex: DSPy in an asyncio program, with the language model made as a worker makes it.

Says "ready" when everything is imported, waits for a line, then runs `count` predicts with `window` in flight and prints
the seconds that they took. It ends with its standard input.
"""

import asyncio
import sys
import time

import dspy

from dspex_worker.engines.dspy_engine.lm import make


async def main(base: str, window: int, count: int) -> None:
    lm = make({"provider": "openai_compatible", "model": "echo", "api_base": base}).lm
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
