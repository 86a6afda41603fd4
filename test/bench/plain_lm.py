"""What one writes first: DSPy in an asyncio program, with `dspy.LM`; and the same with an engine object that has room for many calls.

Each line on stdin is an order: the model (lm, engine), the program, calls in flight, calls. The answer is a line with the
seconds and the processor seconds that they took. It ends with its standard input.
"""

import asyncio
import sys
import time

import dspy
from dspy import lm15
from dspy.clients.engines import AsyncLM15Engine, LM15Engine

CONNECTIONS = 1000


def population(city: str) -> str:
    """How many people live there."""
    return f"{city}: 2 million"


TURNS = [{"question": f"Question {n}, which was asked before?", "answer": f"Answer {n}, which was given before."} for n in range(10)]
PROGRAMS = {
    "predict": lambda: dspy.Predict("question -> answer"),
    "turns": lambda: dspy.Predict("question, history: dspy.History -> answer"),
    "thought": lambda: dspy.ChainOfThought("question -> answer"),
    "typed": lambda: dspy.Predict("question -> answer: str, score: float, count: int, sure: bool, tags: list[str]"),
    "react": lambda: dspy.ReAct("question -> answer", tools=[population]),
}


def models(base: str) -> dict[str, dspy.LM]:
    """The LM as a first script has it, and one whose engine is DSPy's own, made by hand for many connections."""
    access = lm15.AccessPolicy(
        provider="many", supports=lm15.EndpointSupport(complete=True, stream=True), auth_modes=("bearer",), base_url=base
    )
    compat = lm15.OpenAIChatCompat(instruction_role="system", max_tokens_field="max_tokens", stream_usage="include")
    provider = lm15.ProviderDefinition.chat(access, compat=compat, placeholder_key="none")
    config = lm15.RouterConfig(providers=(provider,), max_connections=CONNECTIONS, env={})
    engines = {"engine": LM15Engine(config), "async_engine": AsyncLM15Engine(config)}
    return {
        "lm": dspy.LM("openai/echo", api_base=base, api_key="none", cache=False),
        "engine": dspy.LM("many/echo", cache=False, num_retries=0, **engines),
    }


async def obey(lm: dspy.LM, name: str, window: int, count: int) -> str:
    program, left = PROGRAMS[name](), iter(range(count))
    history = {"history": dspy.History(messages=TURNS)} if name == "turns" else {}

    async def one_after_the_other() -> None:
        for n in left:
            assert (await program.acall(question=f"Question {n}?", **history)).answer

    with dspy.context(lm=lm):
        began, used = time.perf_counter(), time.process_time()
        await asyncio.gather(*(one_after_the_other() for _ in range(window)))
        return f"took {time.perf_counter() - began} {time.process_time() - used}"


async def main(base: str) -> None:
    lms = models(base)
    print("ready", flush=True)
    while line := (await asyncio.to_thread(sys.stdin.readline)).split():
        model, name, window, count = line
        print(await obey(lms[model], name, int(window), int(count)), flush=True)


dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
dspy.configure(adapter=dspy.ChatAdapter())
asyncio.run(main(sys.argv[1]))
