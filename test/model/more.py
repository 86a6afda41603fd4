"""Programs for what a server does beside answering: long answers, and prompts that it refuses."""

from __future__ import annotations

from typing import Any

import dspy

from dspex_worker import program

dspy.configure(adapter=dspy.JSONAdapter())


@program("tale")
class Tale(dspy.Module):
    """An answer that goes on for as long as it may: the prompt is to write on, and nothing ends its text."""

    def forward(self, tokens: int) -> Any:
        return {"said": dspy.settings.lm("one two three one two three one two three", max_tokens=tokens)}


@program("yes")
class Yes(dspy.Module):
    """A short answer."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> yes: bool")

    async def aforward(self, question: str) -> Any:
        return await self.ask.acall(question=question)


@program("told")
class Told(dspy.Module):
    """A text, which streams."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    async def aforward(self, question: str) -> Any:
        return await self.ask.acall(question=question)


@program("catches")
class Catches(dspy.Module):
    """A prompt that is too long, for code that knows DSPy's error."""

    def forward(self, question: str) -> Any:
        try:
            return dspy.Predict("question -> yes: bool")(question=question)
        except dspy.ContextWindowExceededError:
            return {"caught": True}
