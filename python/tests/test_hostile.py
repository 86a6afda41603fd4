"""What user objects do when they are looked at costs nobody an answer, and says what was the matter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from dspex_worker import WorkerError
from tests.client import WorkerProcess


@pytest.fixture(scope="module")
def worker() -> Iterator[WorkerProcess]:
    with WorkerProcess(imports=["hostile"], slots=8) as process:
        process.ready()
        yield process
        assert process.value("ping")["status"] == "ok"  # one process served all of it


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("Raises", "Raises: (its text cannot be had: __str__ raised AttributeError)"),
        ("Nothing", "Nothing: (its text cannot be had: __str__ raised TypeError)"),
        ("Exits", "Exits: (its text cannot be had: __str__ raised SystemExit)"),
        ("Number", "Number: (its text cannot be had: __str__ raised TypeError)"),
        ("Retry", "Retry"),
        ("Cause", "Cause"),
        ("Huge", "Huge: xxx"),
    ],
)
def test_an_exception_that_cannot_be_looked_at_is_told_at_once(worker: WorkerProcess, kind: str, said: str) -> None:
    error = worker.failure("raises", {"kind": kind})
    assert (error.code, error.detail["python_type"], error.detail["retryable"]) == ("user_error", kind, True)
    assert error.message.startswith(said) and len(error.message) <= 4096
    grouped = worker.failure("raises_in_group", {"kind": kind})
    assert said in grouped.message and f"inner {kind}" in grouped.detail["traceback"]


def test_a_worker_error_that_was_changed_is_told_as_far_as_it_can_be(worker: WorkerProcess) -> None:
    error = worker.failure("spoilt")
    assert (error.category, error.code, error.message) == ("python", "user_error", "no text")
    assert error.detail == {"retryable": False}


def test_a_result_that_cannot_be_looked_at_fails_its_own_call(worker: WorkerProcess) -> None:
    assert worker.failure("returns").code == "user_exit"


def test_a_log_record_that_cannot_be_made_costs_no_job(worker: WorkerProcess) -> None:
    assert worker.value("logs_it") == "gone on"
    worker.value("ping")
    assert [record[2] for record in worker.logs if record[1] == "mine"] == [
        "(a record of hostile.py:119 that cannot be formatted: SystemExit): about %s"
    ]


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("int", "TypeError: emit: chunk must be str, got int"),
        ("none", "TypeError: emit: chunk must be str, got NoneType"),
        ("field", "TypeError: emit: field must be str or None, got int"),
        ("surrogate", "ValueError: emit: chunk must be valid UTF-8 text, got a lone surrogate at 0"),
        ("name", "ValueError: emit: field must be a name of at most 64 letters, digits and _.-, got 'a b'"),
    ],
)
def test_what_cannot_be_emitted_is_refused_whether_or_not_somebody_listens(worker: WorkerProcess, what: str, said: str) -> None:
    for stream in (True, False):
        assert worker.value("emits", {"what": what}, options={"stream": stream}) == said


def test_long_partial_output_is_cut_into_pieces(worker: WorkerProcess) -> None:
    result = worker.call("emits", {"what": "huge"}, options={"stream": True})
    assert result.value == "sent"
    assert "".join(chunk[2] for chunk in result.chunks) == "ä" * (3 << 20)
    assert [chunk[0] for chunk in result.chunks] == list(range(48))


def test_code_that_holds_the_loop_is_named_once(worker: WorkerProcess) -> None:
    for _ in range(2):
        worker.value("blocks", {"seconds": 1.2})
    told = [record[2] for record in worker.logs if "holds the event loop" in record[2]]
    assert len(told) == 1 and told[0].startswith("hostile.py:") and "in the command blocks" in told[0]


@pytest.mark.parametrize("code", [0, 3])
def test_a_child_that_a_job_forks_and_that_exits_ends(worker: WorkerProcess, code: int) -> None:
    assert worker.value("forks", {"code": code}) == str(code)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"category": "nonsense"}, "category must be one of"),
        ({"category": 5}, "category must be one of"),
        ({"code": "two\nlines"}, "code must be 1 to 64 lower-case letters"),
        ({"code": "x" * (1 << 20)}, "code must be 1 to 64 lower-case letters"),
        ({"code": None}, "code must be str, got NoneType"),
        ({"message": OSError("x")}, "message must be str, got OSError"),
        ({"hint": 5}, "hint must be str or None, got int"),
        ({"retryable": "yes"}, "retryable must be bool, got str"),
        ({"retry_after_ms": 1.5}, "retry_after_ms must be int or None, got float"),
    ],
)
def test_a_worker_error_is_refused_where_it_is_made(fields: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {"category": "python", "code": "mine", "message": "text", **fields}
    category, code, message = given.pop("category"), given.pop("code"), given.pop("message")
    with pytest.raises((TypeError, ValueError), match=said):
        WorkerError(category, code, message, **given)


def test_a_category_may_be_given_with_and_without_its_ending() -> None:
    assert WorkerError("resource", "mine", "text").category == "resource_error"
    assert WorkerError("python_error", "mine", "text").category == "python"


@pytest.mark.parametrize("category", ["resource", "resource_error"])
def test_a_category_that_is_assigned_may_lack_its_ending(category: str) -> None:
    error = WorkerError("python", "some_code", "text")
    error.category = category
    assert error.fields()[:2] == ("resource_error", "some_code")
