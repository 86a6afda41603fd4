"""Twenty programs for a real model, as a worker imports them and as a script runs them. They ask for little: the model is small."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from typing import Any, Literal, Optional, TypeVar

import dspy
import pydantic

from dspex_worker import program

PROGRAMS: dict[str, tuple[Any, dict[str, Any]]] = {}
"""By name: the program, and its inputs."""

T = TypeVar("T")

dspy.configure(adapter=dspy.JSONAdapter())


def asks(name: str, **inputs: Any) -> Callable[[T], T]:
    """Makes a module one of the twenty."""

    def note(target: T) -> T:
        PROGRAMS[name] = (target, inputs)
        return program(name)(target)

    return note


class Mood(enum.Enum):
    """How a text sounds."""

    GOOD = "good"
    BAD = "bad"


class Person(pydantic.BaseModel):
    """Somebody."""

    name: str = pydantic.Field(max_length=12)
    age: int = pydantic.Field(ge=0, le=120)


class Town(pydantic.BaseModel):
    """A model in a model."""

    size: Literal["small", "large"]
    mayor: Person


class Judge(dspy.Signature):
    """Say how the text sounds."""

    text: str = dspy.InputField()
    mood: Literal["good", "bad", "neutral"] = dspy.OutputField()


class Chat(dspy.Signature):
    """Answer yes or no."""

    question: str = dspy.InputField()
    history: dspy.History = dspy.InputField()
    yes: bool = dspy.OutputField()


def few_shot() -> Any:
    """A predictor with examples."""
    found = dspy.Predict("question -> yes: bool")
    found.demos = [dspy.Example(question="Is ice cold?", yes=True), dspy.Example(question="Is fire cold?", yes=False)]
    return found


asks("bool", question="Is the sky blue?")(dspy.Predict("question -> yes: bool"))
asks("int", question="How many legs has a dog?")(dspy.Predict("question -> legs: int"))
asks("literal", text="I love this.")(dspy.Predict(Judge))
asks("enum", text="This is awful.")(dspy.Predict(dspy.Signature("text -> mood: Mood", custom_types={"Mood": Mood})))
asks("two_outputs", question="Is Rome in Italy?")(dspy.Predict("question -> yes: bool, sure: Literal['low', 'high']"))
asks("optional", text="Ada was here.")(dspy.Predict(dspy.Signature("text -> n: Optional[int]", custom_types={"Optional": Optional})))
asks("model_out", text="Ada is 36 years old.")(dspy.Predict(dspy.Signature("text -> who: Person", custom_types={"Person": Person})))
asks("nested_out", text="Mayor Al, 50, runs a big town.")(dspy.Predict(dspy.Signature("text -> town: Town", custom_types={"Town": Town})))
asks("model_in", who={"name": "Al", "age": 5})(dspy.Predict(dspy.Signature("who: Person -> adult: bool", custom_types={"Person": Person})))
asks("list_in", numbers=[1, 2, 3])(dspy.Predict("numbers: list[int] -> total: int"))
asks("demos", question="Is snow cold?")(few_shot())
asks("history", question="Is it?", history={"messages": [{"question": "Is it day?", "yes": True}]})(dspy.Predict(Chat))
asks("text", question="Who?")(dspy.Predict("question -> answer"))
asks("chain", question="Is water wet?")(dspy.ChainOfThought("question -> yes: bool"))


@asks("chat_adapter", question="Is the sun hot?")
class ChatForm(dspy.Module):
    """DSPy's default adapter, which falls back to JSON where the model does not keep its form."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> yes: bool", max_tokens=16)

    def forward(self, question: str) -> Any:
        with dspy.context(adapter=dspy.ChatAdapter()):
            return self.ask(question=question)


@asks("two_steps", question="Is a cat an animal?")
class TwoSteps(dspy.Module):
    """One answer goes into the next question."""

    def __init__(self) -> None:
        super().__init__()
        self.first = dspy.Predict("question -> yes: bool")
        self.second = dspy.Predict("question, before: bool -> sure: bool")

    async def aforward(self, question: str) -> Any:
        before = (await self.first.acall(question=question)).yes
        return {"before": before, "sure": (await self.second.acall(question=question, before=before)).sure}


@asks("at_once", question="Is it")
class AtOnce(dspy.Module):
    """Two calls at once, of which one waits in the server's queue."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> yes: bool")

    async def aforward(self, question: str) -> Any:
        found = await asyncio.gather(*(self.ask.acall(question=f"{question} {word}?") for word in ("hot", "cold")))
        return {"yes": [one.yes for one in found]}


@asks("direct", question="The capital of France is")
class Direct(dspy.Module):
    """The model without a signature."""

    def forward(self, question: str) -> Any:
        return {"said": dspy.settings.lm(question, max_tokens=8)}


def population(city: str) -> int:
    """The population of a city."""
    return 2_100_000


@asks("agent", question="How many people live in Paris?")
class Agent(dspy.Module):
    """An agent with a tool, for one step."""

    def __init__(self) -> None:
        super().__init__()
        self.agent = dspy.ReAct("question -> many: bool", tools=[population], max_iters=1)

    def forward(self, question: str) -> Any:
        return self.agent(question=question)


@asks("evaluate", question="Is it")
class Evaluated(dspy.Module):
    """A metric over examples."""

    def forward(self, question: str) -> Any:
        examples = [dspy.Example(question=f"{question} {word}?", yes=True).with_inputs("question") for word in ("so", "late")]
        measure = dspy.Evaluate(devset=examples, metric=lambda one, found, trace=None: one.yes == found.yes, num_threads=1)
        return {"score": measure(dspy.Predict("question -> yes: bool")).score}
