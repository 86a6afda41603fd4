"""Tools of ReAct programs that can fail without telling the language model where the operator's files are."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import dspy

from dspex_worker.errors import bounded

__all__ = ["SafeTool", "finish_tool"]

SAID = 300  # characters of an error that the model may read


class SafeTool(dspy.Tool):  # type: ignore[misc]
    """A tool whose errors become a short observation. DSPy itself would put a traceback into the prompt."""

    @classmethod
    def of(cls, function: Callable[..., Any]) -> SafeTool:
        """The function as a tool; a synchronous one runs in a thread, so that it cannot block other calls."""
        tool = dspy.Tool(function)
        run = tool.func if inspect.iscoroutinefunction(tool.func) else _in_thread(tool.func)
        return cls(run, name=tool.name, desc=tool.desc, args=tool.args, arg_types=tool.arg_types, arg_desc=tool.arg_desc)

    async def acall(self, **kwargs: Any) -> Any:
        """The tool's result, or what went wrong."""
        try:
            return await super().acall(**kwargs)
        except Exception as error:
            return bounded(f"The tool {self.name} failed: {type(error).__name__}: {error}", SAID)


def _in_thread(function: Callable[..., Any]) -> Callable[..., Any]:
    async def run(**kwargs: Any) -> Any:
        return await asyncio.to_thread(function, **kwargs)

    return run


def finish_tool(original: Any) -> SafeTool:
    """ReAct's `finish` that takes any arguments: models like to give it the answer."""

    async def finish(**kwargs: Any) -> str:
        return "Completed."

    return SafeTool(finish, name="finish", desc=original.desc, args={})
