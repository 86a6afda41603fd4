"""What an operator's program takes, read from its module."""

from __future__ import annotations

from typing import Any

import dspy
import pytest

from dspex_worker import WorkerError
from dspex_worker.signatures.module_inputs import read_inputs, read_signature


class Own(dspy.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.qa = dspy.Predict("question -> answer")

    async def aforward(self, question: str, least: int = 1) -> Any:
        return await self.qa.acall(question=question)


class Free(dspy.Predict):  # type: ignore[misc]
    """A class of the operator may do with its inputs what it likes."""


def tool(city: str) -> str:
    return city


SIGNATURE = "question, n: int, note: Optional[str], past: dspy.History -> answer"
GOOD = {"question": "q", "n": 1}


@pytest.mark.parametrize(
    "module", [dspy.Predict(SIGNATURE), dspy.ChainOfThought(SIGNATURE), dspy.ReAct(SIGNATURE, tools=[tool])], ids=lambda m: type(m).__name__
)
def test_dspys_own_modules_take_the_inputs_of_their_signature(module: Any) -> None:
    found = read_inputs(module)
    assert found is not None
    found.check(GOOD)
    found.check({**GOOD, "note": None, "past": {"messages": []}})
    for wrong, said in (
        ({"n": 1}, "question is missing"),
        ({**GOOD, "m": 1}, "m is unknown"),
        ({**GOOD, "n": "one"}, "n must be int, not str"),
    ):
        with pytest.raises(WorkerError, match=said) as refused:
            found.check(wrong, "args.inputs")
        assert refused.value.code == "bad_input"
        assert str(refused.value.path).startswith("args.inputs.")


def test_a_class_of_the_operator_takes_what_its_forward_names() -> None:
    found = read_inputs(Own())
    assert found is not None
    found.check({"question": "q"})
    with pytest.raises(WorkerError, match="more is unknown; question must be str, not int"):
        found.check({"question": 1, "more": 2})


def test_what_takes_everything_is_not_checked() -> None:
    free = read_inputs(Free("question -> answer"))
    assert free is not None
    free.check({"whatever": 1})
    assert read_inputs(lambda *values: values) is None


class Told(dspy.Signature):  # type: ignore[misc]
    """Do it
    well."""

    text: str = dspy.InputField(desc="what to read")
    lang: str = dspy.InputField(default="en")
    past: dspy.History = dspy.InputField()
    found: list[int] = dspy.OutputField()


def test_the_signature_of_dspys_own_module_is_told_as_a_request_would_have_it() -> None:
    for module in (dspy.Predict(Told), dspy.ChainOfThought(Told)):
        told = read_signature(module, read_inputs(module))
        assert told is not None
        assert told["description"] == "Do it well."
        assert told["inputs"] == [
            {"name": "text", "type": "str", "description": "what to read", "required": True},
            {"name": "lang", "type": "str", "description": "", "required": False},
            {"name": "past", "type": "history", "description": "", "required": False},
        ]
        assert told["outputs"][-1] == {"name": "found", "type": "list[int]", "description": ""}


def test_of_a_module_of_ones_own_the_parameters_are_told() -> None:
    module = Own()
    told = read_signature(module, read_inputs(module))
    assert told is not None
    assert [(entry["name"], entry["type"], entry["required"]) for entry in told["inputs"]] == [
        ("question", "str", True),
        ("least", "int", False),
    ]
    assert told["outputs"] == []
