"""What an operator registers for the tests of the DSPy engine."""

from __future__ import annotations

from typing import Any

import dspy

from dspex_worker import command, current_job, program


@program("two_steps")
class TwoSteps(dspy.Module):  # type: ignore[misc]
    """A plan, then an answer."""

    def __init__(self) -> None:
        super().__init__()
        self.plan = dspy.Predict("question -> plan")
        self.answer = dspy.Predict("plan -> answer")

    def forward(self, question: str) -> Any:
        return self.answer(plan=self.plan(question=question).plan)


@command
def ask(question: str) -> dict[str, Any]:
    """A synchronous function that calls the model of its job."""
    return {"answer": dspy.Predict("question -> answer")(question=question).answer, "job": current_job().id}


@command
async def ask_later(question: str) -> dict[str, Any]:
    """The same as a coroutine."""
    return {"answer": (await dspy.Predict("question -> answer").acall(question=question)).answer, "job": current_job().id}
