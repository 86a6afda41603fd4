"""What the engine keeps of DSPy's formatting must be what DSPy writes each time."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import dspy
import dspy.adapters.utils
import jsonschema
import pydantic
import pytest
from dspy.experimental import Choice, Noul, Score

from dspex_worker.engines.dspy_engine.patches import kept
from dspex_worker.engines.dspy_engine.patches.adapter import ChatAdapter, keep_type_adapters
from tests.dspy_case import new_engine


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


VALUES = (
    "7", "-7", "0", "-0", "007", "1e3", "+1", " 7", "7 ", "7.", ".5", "0.5", "-0.25", "1.10", "99999999999999999999", "1" * 400, "NaN", "Infinity", "٣",
    "True", "true", "TRUE", "False", "false", "yes", "1", "null", "None", "", "word", "[1, 2]", "[1, '2']", '["a", "b"]', "['a']", '["a"', '{"k": 1}',
    '{"k": "1"}', "{'k': 1}", '{"k": NaN}', '{"k": 1, "k": 2}', '{"k": [1, {"x": null}]}', '[{"name": "Tom"}]', '{"name": "Tom", "lives": "9"}', "[[1]]",
)  # fmt: skip
KINDS = (
    int,
    float,
    bool,
    str,
    list,
    dict,
    list[str],
    list[int],
    list[Cat],
    dict[str, int],
    dict[str, Any],
    int | None,
    Literal["1", "7"],
    Cat,
    Any,
    list[int] | str,
)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_values_are_read_as_dspy_reads_them(kind: Any) -> None:
    def said(read: Any, value: str) -> str:
        try:
            return repr(read(value, kind))
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    for value in VALUES:
        assert said(kept._parsed, value) == said(kept._parse_value, value), value


def test_fields_that_are_kept_are_the_callers_own_and_follow_the_signature() -> None:
    signature = dspy.Signature("question -> answer")
    assert list(kept._fields_with_type(signature, "output")) == ["answer"]
    kept._fields_with_type(signature, "output").clear()
    assert kept._fields_with_type(signature, "output") == kept._fields_of(signature, "output")
    assert not kept._decides(signature)
    signature.model_fields["sure"] = dspy.Signature({"sure": (Noul, dspy.OutputField(desc="Is it?"))}).model_fields["sure"]
    assert list(kept._fields_with_type(signature, "output")) == ["answer", "sure"]
    assert kept._decides(signature)


@pytest.mark.parametrize("kind", [Noul, Annotated[bool, Noul], list[Noul], Score["low", "high"], Annotated[Literal["a", "b"], Choice]])
def test_decisions_go_their_own_way(kind: Any) -> None:
    assert kept._decides(dspy.Signature({"q": (str, dspy.InputField()), "found": (kind, dspy.OutputField(desc="Which?"))}))


def test_what_is_kept_of_a_signature_follows_its_instructions() -> None:
    """Only the adapter's own copy is kept: who deletes a field of a signature gets a class of his own."""

    class Chat(dspy.Signature):  # type: ignore[misc]
        """Talk."""

        question: str = dspy.InputField()
        history: dspy.History = dspy.InputField()
        answer: str = dspy.OutputField()

    new_engine()
    adapter = dspy.ChatAdapter()
    inputs = {"question": "q", "history": dspy.History(messages=[{"question": "a", "answer": "b"}])}
    first = adapter.format(Chat, [], dict(inputs))
    assert adapter.format(Chat, [], dict(inputs)) == first
    Chat.instructions = "Talk loudly."
    assert "Talk loudly." in adapter.format(Chat, [], dict(inputs))[0]["content"]
    assert Chat.delete("history") is not Chat.delete("history")


def test_an_agents_trajectory_is_formatted_as_dspy_formats_it() -> None:
    new_engine()
    agent = dspy.ReAct("question -> answer", tools=[len])
    trajectory = {"thought_0": "t", "tool_name_0": "len", "tool_args_0": {"x": 1}, "observation_0": "one\ntwo"}
    made = dspy.ChatAdapter().format_user_message_content(dspy.Signature(f"{', '.join(trajectory)} -> x"), trajectory)
    for _ in range(2):
        assert agent._format_trajectory(trajectory) == made


def _said(validate: Any, instance: Any, schema: Any) -> Any:
    try:
        validate(instance=instance, schema=schema)
    except (jsonschema.ValidationError, jsonschema.SchemaError) as error:
        return type(error), error.message, list(error.path), error.schema
    return None


@pytest.mark.parametrize(
    ("instance", "schema"),
    [
        ("Paris", {"type": "string"}),
        (3, {"type": "string"}),
        ([1, "a"], {"type": "array", "items": {"type": "integer"}}),
        ({"a": {"b": 1}}, {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"required": ["c"]}}}),
        (3, {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        (1, {"type": "nothing"}),
        (1, {"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 1, "exclusiveMinimum": True}),
    ],
)
def test_arguments_of_tools_are_checked_as_by_dspy_and_their_schemas_once(
    instance: Any, schema: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = _said(jsonschema.validate, instance, schema)
    assert _said(kept._validate, instance, schema) == expected
    kind = jsonschema.validators.validator_for(schema)
    if expected is None or expected[0] is jsonschema.ValidationError:
        monkeypatch.setattr(kind, "check_schema", lambda schema: pytest.fail("the schema was checked again"))
    assert _said(kept._validate, instance, schema) == expected
