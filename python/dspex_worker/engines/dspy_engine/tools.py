"""Tools: synchronous ones run beside the event loop, and those of ReAct programs fail without naming paths."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from collections.abc import Callable
from types import CodeType
from typing import Any

import dspy
from dspy.utils.callback import with_callbacks

from dspex_worker.engines.dspy_engine.blocking import Blocking
from dspex_worker.errors import bounded
from dspex_worker.guard import class_name, text_of
from dspex_worker.spans import spans_var

__all__ = ["SafeTool", "finish_tool", "install"]

SAID = 300  # characters of an error that the model may read
THREADS = 64  # synchronous tools of asynchronous programs that run at once in a worker

_blocking = Blocking("synchronous tools of asynchronous programs", THREADS)


# ReAct's own tool `finish`, which only returns a word.
_FINISH = {part for part in dspy.ReAct.__init__.__code__.co_consts if isinstance(part, CodeType) and part.co_name == "<lambda>"}


def _is_instant(function: Any) -> bool:
    return getattr(function, "__code__", None) in _FINISH


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


async def _acall(self: Any, **kwargs: Any) -> Any:
    """As `dspy.Tool.acall`, but that a synchronous function does not hold the loop, on which all other jobs run."""
    with _spanned(self, kwargs):
        return await _called(self, kwargs)


def _spanned(tool: Any, kwargs: dict[str, Any]) -> contextlib.AbstractContextManager[Any]:
    """The span of a tool's run, if the call is traced."""
    spans = spans_var.get()
    if spans is None:
        return contextlib.nullcontext()
    name = str(getattr(tool, "name", None) or "tool")
    attributes: dict[str, Any] = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name}
    if spans.texts:
        attributes["gen_ai.tool.call.arguments"] = spans.text(kwargs)
    return spans.span(f"execute_tool {name}", attributes)


async def _called(self: Any, kwargs: dict[str, Any]) -> Any:
    parsed = self._validate_and_parse_args(**kwargs)
    function = self.func
    result = function(**parsed) if _is_async(function) or _is_instant(function) else await _blocking.run(lambda: function(**parsed))
    return await result if asyncio.iscoroutine(result) else result


_acall.__name__ = "acall"


def install() -> None:
    """Makes DSPy call synchronous tools in threads wherever it calls them from a task."""
    dspy.Tool.acall = with_callbacks(_acall)
    original = dspy.Tool.__call__

    @functools.wraps(original)
    def call(self: Any, **kwargs: Any) -> Any:
        with _spanned(self, kwargs):
            return original(self, **kwargs)

    dspy.Tool.__call__ = call


class SafeTool(dspy.Tool):  # type: ignore[misc]
    """A tool whose errors become a short observation. DSPy itself would put a traceback into the prompt."""

    @classmethod
    def of(cls, function: Callable[..., Any]) -> SafeTool:
        """The function as a tool."""
        tool = dspy.Tool(function)
        return cls(tool.func, name=tool.name, desc=tool.desc, args=tool.args, arg_types=tool.arg_types, arg_desc=tool.arg_desc)

    async def acall(self, **kwargs: Any) -> Any:
        """The tool's result, or what went wrong."""
        try:
            return await super().acall(**kwargs)
        except Exception as error:
            return bounded(f"The tool {self.name} failed: {class_name(error)}: {text_of(error)}", SAID)


def finish_tool(original: Any) -> SafeTool:
    """ReAct's `finish` that takes any arguments: models like to give it the answer."""

    async def finish(**kwargs: Any) -> str:
        return "Completed."

    return SafeTool(finish, name="finish", desc=original.desc, args={})
