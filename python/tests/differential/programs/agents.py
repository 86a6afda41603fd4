"""Agents and tools."""

from __future__ import annotations

from typing import Any

import dspy

from tests.differential.case import case


def lookup(word: str) -> str:
    """Looks a word up."""
    return f"{word} means x"


async def lookup_later(word: str) -> str:
    """Looks a word up, asynchronously."""
    return f"{word} means later"


def add(a: int, b: int = 2) -> int:
    """Adds."""
    return a + b


def fails(word: str) -> str:
    """Fails."""
    raise KeyError(word)


TOOLS: dict[str, list[Any]] = {
    "none": [],
    "sync": [lookup],
    "two": [lookup, add],
    "numbers": [add],
    "tool": [dspy.Tool(lookup, name="other", desc="Other.")],
}
for name, tools in TOOLS.items():
    case(f"react_{name}")(dspy.ReAct("question -> answer", tools=list(tools), max_iters=3))
case("react_failing_tool", differs="places")(dspy.ReAct("question -> answer", tools=[fails], max_iters=2))
case("react_typed")(dspy.ReAct("question -> n: int, words: list[str]", tools=[lookup], max_iters=3))


@case("react_async_tool")
class AsyncAgent(dspy.Module):
    """An agent whose tool is a coroutine."""

    def __init__(self) -> None:
        super().__init__()
        self.agent = dspy.ReAct("question -> answer", tools=[lookup_later], max_iters=3)

    async def aforward(self, question: str) -> Any:
        return await self.agent.acall(question=question)

    forward = None


del AsyncAgent.forward


@case("react_subclass")
class Wrapped(dspy.ReAct):
    """An agent of one's own, with a synchronous forward above an asynchronous one that it inherits."""

    def __init__(self) -> None:
        super().__init__("question -> answer", tools=[lookup], max_iters=3)

    def forward(self, **inputs: Any) -> Any:
        return {"wrapped": super().forward(**inputs).answer}


@case("tool_call")
class ToolCall(dspy.Module):
    """A tool without an agent."""

    def forward(self, question: str) -> Any:
        return {"sync": dspy.Tool(add)(a=1), "text": str(dspy.Tool(lookup)), "args": dspy.Tool(add).args}


@case("tool_call_in_task")
class ToolInTask(dspy.Module):
    """Tools from a coroutine."""

    async def aforward(self, question: str) -> Any:
        return {"sync": await dspy.Tool(add).acall(a=1), "async": await dspy.Tool(lookup_later).acall(word="w")}


@case("tool_wrong_argument")
class ToolWrong(dspy.Module):
    """A tool that is called wrongly."""

    def forward(self, question: str) -> Any:
        return dspy.Tool(add)(a="no number")


@case("tool_async_from_sync")
class ToolAsync(dspy.Module):
    """An asynchronous tool from synchronous code."""

    def forward(self, question: str) -> Any:
        with dspy.context(allow_tool_async_sync_conversion=True):
            return {"found": dspy.Tool(lookup_later)(word="w")}


@case("tool_async_refused")
class ToolRefused(dspy.Module):
    """The same without leave."""

    def forward(self, question: str) -> Any:
        return {"found": dspy.Tool(lookup_later)(word="w")}


@case("program_of_thought_without_deno")
class Thought(dspy.Module):
    """Code needs an interpreter."""

    def forward(self, question: str) -> Any:
        return dspy.PythonInterpreter(deno_command=["no-such-deno"]).execute("1+1")
