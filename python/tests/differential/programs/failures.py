"""Failures: of the model, of its answers, and of the code."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import dspy

from tests.differential.case import case

for code in (400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504, 529):
    case(f"http_{code}", {"question": f"please fail with {code}"})(dspy.Predict("question -> answer"))

ANSWERS = {"empty": "[[ ## answer ## ]]", "no_marks": "just words", "wrong_field": "[[ ## other ## ]]\nx"}
for name, text in ANSWERS.items():
    case(f"answer_{name}", {"question": f"please answer exactly ({text})"})(dspy.Predict("question -> answer"))
case("answer_no_number", {"question": "please answer exactly ([[ ## n ## ]]\nmany)"})(dspy.Predict("question -> n: int"))
choice = dspy.Signature({"question": (str, dspy.InputField()), "mood": (Literal["good", "bad"], dspy.OutputField())})
case("answer_other_choice", {"question": "please answer exactly ([[ ## mood ## ]]\nodd)"})(dspy.Predict(choice))


class Raises(dspy.Module):
    """Raises."""

    def __init__(self, error: Any) -> None:
        super().__init__()
        self.error = error

    def forward(self, question: str) -> Any:
        raise self.error


for error in (ValueError("x"), KeyError("x"), RuntimeError("x"), OSError("x"), NotImplementedError(), TypeError("x"), ZeroDivisionError()):
    case(f"raises_{type(error).__name__}")(Raises(error))


@case("raises_group")
class Group(dspy.Module):
    """One error in a group."""

    async def aforward(self, question: str) -> Any:
        async def bad() -> None:
            raise ValueError("the real reason")

        async with asyncio.TaskGroup() as group:
            group.create_task(bad())


@case("catches")
class Catches(dspy.Module):
    """Goes on after a failure of the model."""

    def forward(self, question: str) -> Any:
        try:
            return dspy.Predict("question -> answer")(question="please fail with 429")
        except dspy.utils.exceptions.LMRateLimitError as error:
            return {"caught": type(error).__name__, "status": error.status}


@case("missing_model")
class NoModel(dspy.Module):
    """Without a model."""

    def forward(self, question: str) -> Any:
        with dspy.context(lm=None):
            return dspy.Predict("question -> answer")(question=question)


@case("positional")
class Positional(dspy.Module):
    """A predictor takes names only."""

    def forward(self, question: str) -> Any:
        return dspy.Predict("question -> answer")(question)
