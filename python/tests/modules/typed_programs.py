"""Programs whose inputs have types that JSON does not have."""

from __future__ import annotations

import dataclasses
import datetime
import enum
from typing import Any, Optional

import dspy
import pydantic

from dspex_worker import command, program


class Person(pydantic.BaseModel):
    """A model."""

    name: str
    age: int = pydantic.Field(default=1, ge=0)


class Mood(enum.Enum):
    """A choice."""

    GOOD = "good"
    BAD = "bad"


@dataclasses.dataclass
class Point:
    """Two numbers."""

    x: int
    y: int = 2


class Chat(dspy.Signature):  # type: ignore[misc]
    """Talk."""

    question: str = dspy.InputField()
    history: dspy.History = dspy.InputField()
    answer: str = dspy.OutputField()


class Translate(dspy.Signature):  # type: ignore[misc]
    """Translate."""

    text: str = dspy.InputField()
    lang: str = dspy.InputField(default="en")
    out: str = dspy.OutputField()


program("chat")(dspy.Predict(Chat))
program("translate")(dspy.Predict(Translate))
program("caption")(dspy.Predict("image: dspy.Image -> caption"))
program("captions")(dspy.Predict("images: list[dspy.Image] -> caption"))


@program("typed")
class Typed(dspy.Module):  # type: ignore[misc]
    """Tells what it was given."""

    async def aforward(
        self,
        person: Person,
        mood: Mood,
        day: datetime.date,
        point: Optional[Point] = None,
        people: list[Person] = [],  # noqa: B006
    ) -> Any:
        return {
            "types": [type(value).__name__ for value in (person, mood, day, point, *people)],
            "name": person.name,
            "later": day + datetime.timedelta(days=1),
        }


@program("remembers")
class Remembers(dspy.Module):  # type: ignore[misc]
    """Sees the conversation."""

    async def aforward(self, question: str, history: dspy.History) -> Any:
        return {"answer": f"a{len(history.messages)}", "kind": type(history).__name__}


@command
async def greet(person: Person, when: datetime.datetime) -> str:
    """A command takes them, too."""
    return f"{person.name} at {when:%H:%M}"
