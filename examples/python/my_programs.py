"""Commands and programs of one's own.

cd examples/python
dspex dev --import my_programs

dspex call word_count text="one two two"
dspex call rate text="I love it"
dspex call countdown start=3 --stream
dspex call execute_program program_id=answer_in_steps inputs:='{"question": "Why is the sky blue?"}' --session user_123
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import dspy

from dspex_worker import WorkerError, command, current_job, program


@command
def word_count(text: str, least: int = 1) -> dict[str, int]:
    """A synchronous function runs in a thread. Its arguments are checked against its annotations before it starts."""
    return {word: count for word, count in Counter(text.split()).items() if count >= least}


@command
async def rate(text: str) -> dict[str, Any]:
    """DSPy code finds the job's language model: the session's, or the one that the job names."""
    rated = await dspy.Predict("text -> mood: Literal['good', 'bad'], score: float").acall(text=text)
    return {"mood": rated.mood, "score": rated.score}


@command
async def countdown(start: int) -> str:
    """Partial output goes to the caller that requested it (`--stream`, options.stream)."""
    for left in range(start, 0, -1):
        current_job().emit(f"{left}...")
        await asyncio.sleep(0.01)
    return "lift-off"


@command(exclusive=True)
def charge(account: str, cents: int) -> dict[str, Any]:
    """An exclusive command has its worker to itself. With the job's id and attempt, a tool can be idempotent."""
    if cents <= 0:
        raise WorkerError("python", "bad_amount", "an amount must be positive", hint="give cents as a positive integer")
    job = current_job()
    return {"account": account, "cents": cents, "receipt": f"{job.session or 'anonymous'}/{job.id}", "attempt": job.attempt}


@program("answer_in_steps")
class AnswerInSteps(dspy.Module):
    """A module becomes a program that every session can execute. With `aforward` many run at once."""

    def __init__(self) -> None:
        super().__init__()
        self.plan = dspy.ChainOfThought("question -> steps: list[str]")
        self.answer = dspy.Predict("question, steps: list[str] -> answer")

    async def aforward(self, question: str) -> dspy.Prediction:
        """Two calls of the language model, the second with the outcome of the first."""
        plan = await self.plan.acall(question=question)
        found = await self.answer.acall(question=question, steps=plan.steps)
        return dspy.Prediction(steps=plan.steps, answer=found.answer)


def population(city: str) -> str:
    """The tool of the program below."""
    return {"Paris": "2.1 million"}.get(city, "unknown")


# An object works as well as a class; ReAct takes plain functions as tools.
geographer = program("geographer")(dspy.ReAct("question -> answer", tools=[population], max_iters=5))
