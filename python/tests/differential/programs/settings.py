"""Settings, callbacks, models and caches of one's own."""

from __future__ import annotations

from typing import Any

import dspy
from dspy.utils.callback import BaseCallback
from dspy.utils.dummies import DummyLM

from tests.differential.case import case


class Note(BaseCallback):
    """Notes what happens."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_module_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        self.seen.append(f"module {type(instance).__name__}")

    def on_lm_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        self.seen.append("lm")

    def on_lm_end(self, call_id: str, outputs: Any, exception: Any = None) -> None:
        self.seen.append(f"lm ended {type(exception).__name__ if exception else 'well'}")

    def on_adapter_parse_end(self, call_id: str, outputs: Any, exception: Any = None) -> None:
        self.seen.append("parsed")

    def on_tool_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        self.seen.append(f"tool {instance.name}")


def add(a: int) -> int:
    """Adds one."""
    return a + 1


@case("callbacks")
class Called(dspy.Module):
    """Callbacks of a block."""

    def forward(self, question: str) -> Any:
        note = Note()
        with dspy.context(callbacks=[note]):
            dspy.ChainOfThought("question -> answer")(question=question)
            dspy.Tool(add)(a=1)
        return {"seen": note.seen}


@case("callbacks_in_task")
class CalledInTask(dspy.Module):
    """The same in a coroutine."""

    async def aforward(self, question: str) -> Any:
        note = Note()
        with dspy.context(callbacks=[note]):
            await dspy.Predict("question -> answer").acall(question=question)
            await dspy.Tool(add).acall(a=1)
        return {"seen": note.seen}


@case("callbacks_of_an_error")
class CalledOfError(dspy.Module):
    """They are called at failures."""

    def forward(self, question: str) -> Any:
        note = Note()
        try:
            dspy.Predict("question -> answer", callbacks=[note])(question="please fail with 401")
        except dspy.utils.exceptions.LMAuthError:
            note.seen.append("raised")
        return {"seen": note.seen}


@case("dummy_lm")
class Dummy(dspy.Module):
    """A model in the process."""

    def forward(self, question: str) -> Any:
        with dspy.context(lm=DummyLM([{"answer": "from the dummy"}])):
            return dspy.Predict("question -> answer")(question=question)


class Own(dspy.BaseLM):
    """A model of one's own, as DSPy documents it."""

    def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        from types import SimpleNamespace as Space

        message = Space(content="[[ ## answer ## ]]\nmy own\n\n[[ ## completed ## ]]", role="assistant", tool_calls=None)
        return Space(choices=[Space(message=message, finish_reason="stop", index=0)], usage={"total_tokens": 2}, model="own")


@case("own_lm", differs="usage_of_own_models")
class OwnLM(dspy.Module):
    """It is used."""

    def forward(self, question: str) -> Any:
        with dspy.context(lm=Own("own")):
            return dspy.Predict("question -> answer")(question=question)


@case("configure_inside")
class Configure(dspy.Module):
    """Configure in a program: for the rest of it."""

    def forward(self, question: str) -> Any:
        dspy.configure(adapter=dspy.JSONAdapter())
        found = dspy.Predict("question -> answer")(question=question)
        return {"answer": found.answer, "adapter": type(dspy.settings.adapter).__name__}


@case("configure_in_task")
class ConfigureInTask(dspy.Module):
    """The same in a coroutine."""

    async def aforward(self, question: str) -> Any:
        dspy.configure(adapter=dspy.JSONAdapter())
        return {"answer": (await dspy.Predict("question -> answer").acall(question=question)).answer}


@case("settings_defaults")
class Defaults(dspy.Module):
    """What settings hold from the start."""

    def forward(self, question: str) -> Any:
        names = (
            "max_errors",
            "num_threads",
            "async_max_workers",
            "track_usage",
            "provide_traceback",
            "allow_tool_async_sync_conversion",
            "rm",
        )
        return {name: dspy.settings.get(name) for name in names}


@case("nested_context")
class NestedContext(dspy.Module):
    """Blocks in blocks."""

    def forward(self, question: str) -> Any:
        seen = [dspy.settings.max_errors]
        with dspy.context(max_errors=3):
            seen.append(dspy.settings.max_errors)
            with dspy.context(num_threads=2):
                seen += [dspy.settings.max_errors, dspy.settings.num_threads]
        return {"seen": [*seen, dspy.settings.max_errors]}
