"""Programs that wait for a model in every way there is."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import dspy

from dspex_worker import command, program


class Waits(dspy.Module):  # type: ignore[misc]
    """A module with one predictor; how it is used says the function."""

    def __init__(self, use: Any) -> None:
        super().__init__()
        self.qa = dspy.Predict("question -> answer")
        self.use = use

    def forward(self, question: str) -> Any:
        return self.use(self.qa, question)


def _loop(qa: Any, question: str) -> Any:
    return asyncio.run(qa.acall(question=question))


def _parallel(qa: Any, question: str) -> Any:
    return dspy.Parallel(num_threads=2, disable_progress_bar=True)([(qa, {"question": question})] * 2)


def _evaluate(qa: Any, question: str) -> Any:
    examples = [dspy.Example(question=f"{question} {n}").with_inputs("question") for n in range(40)]
    return dspy.Evaluate(devset=examples, metric=lambda one, found, trace=None: 1.0, num_threads=2)(qa).score


def _thread(qa: Any, question: str) -> Any:
    thread = threading.Thread(target=qa, kwargs={"question": question})
    thread.start()
    thread.join()


def _again_and_again(qa: Any, question: str) -> Any:
    while True:
        try:
            qa(question=question)
        except Exception as error:
            if "has ended" in str(error):
                raise


def _left_thread(qa: Any, question: str) -> Any:
    AT_MODEL.clear()
    threading.Thread(target=qa, kwargs={"question": question}, daemon=True).start()
    assert AT_MODEL.wait(60)


def _own_model(qa: Any, question: str) -> Any:
    with dspy.context(lm=dspy.LM("openai/gpt-4o-mini", api_base=question, api_key="sk-of-my-own-0123456789", cache=False)):
        return qa(question=question)


USES = {
    "call": lambda qa, question: qa(question=question), "loop": _loop, "parallel": _parallel, "evaluate": _evaluate,
    "thread": _thread, "again": _again_and_again, "own_model": _own_model,
}  # fmt: skip
for _name, _use in USES.items():
    program(f"waits_{_name}")(Waits(_use))
program("leaves_thread")(Waits(_left_thread))

AT_MODEL = threading.Event()  # set by a job of its own, once the model has been asked


@command
def at_model() -> None:
    """Says that the model has been asked."""
    AT_MODEL.set()


class Tool(dspy.Module):  # type: ignore[misc]
    """An asynchronous program with a synchronous tool that asks the model."""

    def __init__(self) -> None:
        super().__init__()
        self.qa = dspy.Predict("question -> answer")
        self.tool = dspy.Tool(lambda question: self.qa(question=question).answer, name="ask", args={"question": {"type": "string"}})

    async def aforward(self, question: str) -> Any:
        return {"answer": await self.tool.acall(question=question)}


program("waits_tool")(Tool())


class LeavesTask(dspy.Module):  # type: ignore[misc]
    """A task that asks the model, and that nobody waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.qa = dspy.Predict("question -> answer")
        self.tasks: list[Any] = []

    async def aforward(self, question: str) -> Any:
        AT_MODEL.clear()
        self.tasks.append(asyncio.ensure_future(self.qa.acall(question=question)))
        await asyncio.to_thread(AT_MODEL.wait, 60)
        return {"tasks": len(self.tasks)}


program("leaves_task")(LeavesTask())


@command
def waits_in_function(question: str) -> Any:
    """A synchronous function."""
    return dspy.Predict("question -> answer")(question=question).answer
