"""What an operator's program takes, read from its module."""

from __future__ import annotations

from typing import Any

import dspy
import pytest

from dspex_worker import WorkerError
from dspex_worker.module_inputs import read_inputs


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
