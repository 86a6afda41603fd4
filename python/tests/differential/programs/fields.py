"""All types of fields, in and out."""

from __future__ import annotations

import datetime
import decimal
import enum
import pathlib
import uuid
from typing import Any, Literal, Optional

import dspy
import pydantic

from tests.differential.case import case


class Person(pydantic.BaseModel):
    """A model with a rule."""

    name: str
    age: int = pydantic.Field(default=1, ge=0)


class Family(pydantic.BaseModel):
    """A model of models."""

    head: Person
    members: list[Person]
    motto: Optional[str] = None


class Mood(enum.Enum):
    """A choice."""

    GOOD = "good"
    BAD = "bad"


OUT: dict[str, Any] = {
    "str": str, "int": int, "float": float, "bool": bool, "list_str": list[str], "list_int": list[int], "dict": dict[str, int],
    "dict_any": dict[str, Any], "optional": Optional[int], "literal": Literal["yes", "no"], "person": Person, "family": Family,
    "people": list[Person], "mood": Mood, "date": datetime.date, "datetime": datetime.datetime, "decimal": decimal.Decimal,
    "maps": list[dict[str, int]], "any": Any,
}  # fmt: skip

for name, kind in OUT.items():
    signature = dspy.Signature({"question": (str, dspy.InputField()), "found": (kind, dspy.OutputField(desc="what was found"))})
    case(f"out_{name}")(dspy.Predict(signature))
    case(f"out_{name}_chain")(dspy.ChainOfThought(signature))

IN: dict[str, tuple[Any, Any, Any]] = {
    "str": (str, "text", "text"),
    "int": (int, 5, 5),
    "float": (float, 2.5, 2.5),
    "bool": (bool, True, True),
    "list": (list[str], ["a", "b"], ["a", "b"]),
    "dict": (dict[str, int], {"k": 1}, {"k": 1}),
    "nested": (dict[str, Any], {"k": [1, {"x": None}]}, {"k": [1, {"x": None}]}),
    "optional_none": (Optional[str], None, None),
    "literal": (Literal["yes", "no"], "no", "no"),
    "person": (Person, {"name": "Al"}, Person(name="Al")),
    "people": (list[Person], [{"name": "Al", "age": 2}], [Person(name="Al", age=2)]),
    "family": (Family, {"head": {"name": "A"}, "members": []}, Family(head=Person(name="A"), members=[])),
    "mood": (Mood, "bad", Mood.BAD),
    "date": (datetime.date, "2025-07-15", datetime.date(2025, 7, 15)),
    "datetime": (datetime.datetime, "2025-07-15T10:30:00", datetime.datetime(2025, 7, 15, 10, 30)),
    "decimal": (decimal.Decimal, "1.10", decimal.Decimal("1.10")),
    "path": (pathlib.PurePosixPath, "a/b", pathlib.PurePosixPath("a/b")),
    "uuid": (uuid.UUID, "00000000-0000-0000-0000-000000000001", uuid.UUID(int=1)),
    "tuple": (tuple[int, str], [1, "a"], (1, "a")),
    "image": (dspy.Image, "https://x.test/cat.png", dspy.Image("https://x.test/cat.png")),
    "image_data": (dspy.Image, "data:image/png;base64,AAAA", dspy.Image("data:image/png;base64,AAAA")),
    "images": (list[dspy.Image], ["https://x.test/1.png"], [dspy.Image("https://x.test/1.png")]),
    "audio": (dspy.Audio, {"data": "AAAA", "audio_format": "wav"}, dspy.Audio(data="AAAA", audio_format="wav")),
    "file": (dspy.File, "data:application/pdf;base64,AAAA", dspy.File(file_data="data:application/pdf;base64,AAAA")),
    "code": (dspy.Code["python"], "print(1)", dspy.Code["python"](code="print(1)")),
    "history": (
        dspy.History,
        {"messages": [{"question": "a", "found": "b"}]},
        dspy.History(messages=[{"question": "a", "found": "b"}]),
    ),
}

for name, (kind, given, plain) in IN.items():
    signature = dspy.Signature(
        {"question": (str, dspy.InputField()), "value": (kind, dspy.InputField()), "found": (str, dspy.OutputField())}
    )
    case(
        f"in_{name}",
        {"question": "Why?", "value": given},
        plain=lambda plain=plain: {"question": "Why?", "value": plain},
        differs="litellm" if name in ("audio", "file") else "",
    )(dspy.Predict(signature))


class Translate(dspy.Signature):
    """Translate."""

    text: str = dspy.InputField()
    lang: str = dspy.InputField(default="en")
    out: str = dspy.OutputField()


case("in_default", {"text": "x"})(dspy.Predict(Translate))
case("in_default_chain", {"text": "x"})(dspy.ChainOfThought(Translate))
case("in_untyped_number", {"question": 5})(dspy.Predict("question -> answer"))


@case("results_plain", {})
class Results(dspy.Module):
    """What Python programs return every day."""

    def forward(self) -> Any:
        return {
            "tuple": (1, 2), "set": {"a"}, "date": datetime.date(2025, 7, 15), "delta": datetime.timedelta(seconds=5), "path": pathlib.Path("a"),
            "decimal": decimal.Decimal("1.1"), "keys": {1: "a", None: "b"}, "case": {"US": 1, "us": 2}, "model": Person(name="Al"), "mood": Mood.GOOD,
            "example": dspy.Example(a=1), "image": dspy.Image("https://x.test/1.png"), "error": ValueError("x"), "big": 2**70, "none": None,
        }  # fmt: skip
