"""What the engine keeps of DSPy's formatting must be what DSPy writes each time."""

from __future__ import annotations

from typing import Any

import dspy
import dspy.adapters.utils
import pydantic
import pytest

from dspex_worker.engines.dspy_engine.adapter import ChatAdapter, keep_type_adapters


class Cat(pydantic.BaseModel):
    name: str
    lives: int = 9


SIGNATURES: list[tuple[str, dict[str, Any]]] = [
    ("question -> answer", {"question": "why?"}),
    ("a: int, b: list[str] -> c: float, d: bool", {"a": 1, "b": ["x", "y"]}),
    ("data: dict[str, int], cat -> kind: Literal['x', 'y'], why: str | None", {"data": {"n": 1}, "cat": Cat(name="Tom")}),
]


@pytest.mark.parametrize(("text", "inputs"), SIGNATURES)
def test_messages_are_those_of_dspys_own_adapter_in_every_call(text: str, inputs: dict[str, Any]) -> None:
    signature = dspy.Signature(text, "Do it.")
    expected = dspy.ChatAdapter().format(signature, [], inputs)
    keep_type_adapters()
    ours = ChatAdapter()
    assert [ours.format(signature, [], inputs) for _ in range(3)] == [expected] * 3


def test_other_instructions_make_another_message() -> None:
    ours, signature = ChatAdapter(), dspy.Signature("question -> answer", "Be brief.")
    assert "Be brief." in ours.format_system_message(signature)
    signature.instructions = "Be thorough."
    assert ours.format_system_message(signature) == dspy.ChatAdapter().format_system_message(signature)
    assert "Be brief." in ours.format_system_message(signature.with_instructions("Be brief."))


def test_types_that_are_equal_but_not_the_same_have_their_own_adapters() -> None:
    keep_type_adapters()
    assert dspy.adapters.utils.TypeAdapter(str) is dspy.adapters.utils.TypeAdapter(str)
    assert dspy.adapters.utils.TypeAdapter(int | str) is not dspy.adapters.utils.TypeAdapter(str | int)


def test_streaming_finds_the_adapter_by_its_name() -> None:
    assert ChatAdapter.__name__ == dspy.ChatAdapter.__name__
