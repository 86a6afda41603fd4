"""What the operator's modules may register, and the check of arguments before a function runs."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from dspex_worker import WorkerError, current_job, imports, program
from dspex_worker.registry import accepts, read_function
from tests.client import WorkerProcess


def test_arguments_are_checked_before_the_function_runs(worker: WorkerProcess) -> None:
    assert worker.value("add", {"a": 1, "b": 2, "unit": "km"}) == {"sum": 3, "unit": "km"}
    assert worker.value("add", {"a": 1}) == {"sum": 2, "unit": "m"}
    error = worker.failure("add", {"b": "two", "unit": "mile", "c": 1})
    assert (error.category, error.code, error.detail["retryable"]) == ("python", "bad_input", False)
    for part in ("a is missing", "c is unknown", "b must be int, not str", "unit must be Literal['m', 'km']"):
        assert part in error.message
    assert error.detail["expected"] == "a: int, b?: int, unit?: Literal['m', 'km']"
    assert error.detail["path"] == "args.a"


def test_declared_inputs_take_the_place_of_annotations(worker: WorkerProcess) -> None:
    assert worker.value("loose", {"size": 1, "names": ["a"], "other": None}) == {"size": 1, "names": ["a"], "other": None}
    assert "names must be list[str], not list" in worker.failure("loose", {"names": [1]}).message


@pytest.mark.parametrize(
    ("hint", "good", "bad"),
    [
        (int, [0, -1], [True, 1.0, "1", None]),
        (float, [1, 1.5], [True, "1"]),
        (str, [""], [b"", 1]),
        (bool, [True], [1]),
        (bytes, [b""], [""]),
        (list, [[1]], [(1,), {}]),
        (list[int], [[], [1]], [["a"], 1]),
        (dict[str, list[int]], [{"a": [1]}], [{"a": 1}, []]),
        (int | None, [1, None], ["x"]),
        (Literal["a", 1], ["a", 1], ["b", True, 1.0]),
        (Any, [None, 1, "x"], []),
        (object, [None, 1, "x"], []),
    ],
)
def test_simple_types(hint: Any, good: list[Any], bad: list[Any]) -> None:
    assert all(accepts(hint, value) for value in good)
    assert not any(accepts(hint, value) for value in bad)


def test_functions_that_no_map_can_call_are_refused() -> None:
    def positional(a: int, /) -> None: ...

    def many(*values: int) -> None: ...

    def plain(a: int) -> None: ...

    for function in (positional, many):
        with pytest.raises(ValueError, match="cannot be given by name"):
            read_function("f", function)
    with pytest.raises(ValueError, match="must match"):
        read_function("Bad Name", plain)
    with pytest.raises(ValueError, match=r"does not take: \['b'\]"):
        read_function("f", plain, inputs={"b": int})
    with pytest.raises(ValueError, match="needs an id"):
        program("no spaces please")


def test_a_hint_that_cannot_be_read_checks_nothing() -> None:
    def strange(a: Any) -> None: ...

    strange.__annotations__["a"] = "NoSuchName[int]"
    read_function("strange", strange).check({"a": object()})


def test_current_job_outside_of_a_job() -> None:
    with pytest.raises(RuntimeError, match="outside of a job"):
        current_job()


def test_an_import_that_fails_names_the_module() -> None:
    with pytest.raises(WorkerError, match="import of no_such_module_here failed") as caught:
        imports.load_modules(["no_such_module_here"])
    assert (caught.value.category, caught.value.code) == ("initialization", "import_failed")
