"""A whole session that comes from a document, or goes for good."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from dspex_worker.protocol import wire
from tests.client import WorkerProcess

QA_BOT = {"id": "qa_bot", "signature": "question -> answer", "program_type": "chain_of_thought"}


def filled(worker: WorkerProcess, session: str) -> dict[str, Any]:
    """The document of a session that holds one of everything, as the dispatcher makes it of the record."""
    worker.value("create_program", QA_BOT, session=session)
    worker.value("set_lm", {"model": "fast", "temperature": 0.2}, session=session)
    worker.value("predict", {"question": "one"}, session=session)
    worker.value("execute_program", {"program_id": "qa_bot", "inputs": {"question": "two"}}, session=session)
    worker.value("update_session_data", {"operation": "set", "key": "k", "value": [1, 2.5]}, session=session)
    return {"schema": 1, "session_id": session, "state": wire.decode(worker.sessions[session][1])}


def test_an_exported_session_is_the_same_in_another_place(worker: WorkerProcess, session: str) -> None:
    document = filled(worker, session)
    copy_of = session + "_copy"
    result = worker.call("import_session", {"document": document, "session_id": copy_of}, session=copy_of)
    assert result.value == {"status": "imported", "session_id": copy_of, "programs_count": 1, "turns": 1, "revision": 1}
    assert result.meta["lm_choice"] == {"model": "fast", "temperature": 0.2}
    imported = wire.decode(worker.sessions[copy_of][1])
    assert {**imported, "version": document["state"]["version"]} == document["state"]
    assert (
        worker.value("execute_program", {"program_id": "qa_bot", "inputs": {"question": "three"}}, session=copy_of)["program_id"]
        == "qa_bot"
    )
    assert worker.value("list_programs", session=copy_of)["programs"][0]["execution_count"] == 2


def test_a_session_with_state_is_replaced_only_on_request(worker: WorkerProcess, session: str) -> None:
    document = filled(worker, session)
    error = worker.failure("import_session", {"document": document}, session=session)
    assert (error.category, error.code, error.detail["retryable"]) == ("session", "session_not_empty", False)
    document["state"]["data"] = {"other": True}
    worker.value("import_session", {"document": document, "replace": True}, session=session)
    assert worker.value("get_session_data", session=session)["data"] == {"other": True}
    empty = {"schema": 1, "state": None}
    assert worker.value("import_session", {"document": empty, "replace": True}, session=session)["programs_count"] == 0
    assert worker.value("import_session", {"document": document}, session=session)["programs_count"] == 1  # an emptied one is empty


def change(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    *way, last = path.split("/")
    at: Any = changed
    for step in way:
        at = at[step]
    at[last] = value
    return changed


@pytest.mark.parametrize(
    ("path", "value", "code", "at"),
    [
        ("schema", "1", "bad_input", "schema"),
        ("schema", True, "bad_input", "schema"),
        ("schema", 2, "record_newer", "schema"),
        ("state/v", 2, "record_newer", "state.v"),
        ("state/v", None, "bad_input", "state.v"),
        ("state", [], "bad_input", "state"),
        ("secrets", {}, "bad_input", "secrets"),
        ("state/secrets", {}, "bad_input", "state.secrets"),
        ("state/programs", [], "bad_input", "state.programs"),
        ("state/programs/a b", {}, "bad_input", "state.programs.a b"),
        ("state/programs/shout", {"program_type": "predict", "signature": "a -> b"}, "program_exists", "state.programs.shout"),
        ("state/programs/qa_bot/program_type", "eval", "bad_input", "state.programs.qa_bot.program_type"),
        ("state/programs/qa_bot/signature", "question ->", "bad_signature", "state.programs.qa_bot"),
        ("state/programs/qa_bot/execution_count", -1, "bad_input", "state.programs.qa_bot.execution_count"),
        ("state/programs/qa_bot/code", "import os", "bad_input", "state.programs.qa_bot.code"),
        ("state/lm", {"temperature": 1}, "bad_input", "state.lm.model"),
        ("state/lm/api_key", "sk-1", "secret_in_request", "state.lm.api_key"),
        ("state/lm/temperature", 9, "bad_input", "state.lm.temperature"),
        ("state/history", {}, "bad_input", "state.history"),
        ("state/history", [{"inputs": {}, "outputs": 1}], "bad_input", "state.history[0].outputs"),
        ("state/data", "x", "bad_input", "state.data"),
        ("state/created_at", 1, "bad_input", "state.created_at"),
    ],
)
def test_a_document_that_is_wrong_anywhere_changes_nothing(
    worker: WorkerProcess, session: str, path: str, value: Any, code: str, at: str
) -> None:
    document = change(filled(worker, session), path, value)
    target = session + "_target"
    error = worker.failure("import_session", {"document": document}, session=target)
    assert error.code == code
    assert error.detail["path"].startswith("args.document." + at)
    assert error.detail["expected"]
    assert target not in worker.sessions


def test_import_needs_a_session_and_a_document(worker: WorkerProcess, session: str) -> None:
    assert worker.failure("import_session", {"document": {"schema": 1, "state": None}}).code == "session_required"
    assert worker.failure("import_session", session=session).detail["path"] == "args.document"
    assert worker.failure("import_session", {"document": {"schema": 1}, "replace": 1}, session=session).detail["path"] == "args.replace"


def test_erase_leaves_nothing_and_twice_is_fine(worker: WorkerProcess, session: str) -> None:
    filled(worker, session)
    for _ in range(2):
        assert worker.value("erase_session", {"session_id": session}, session=session) == {"status": "erased", "session_id": session}
    assert worker.value("get_session_data", session=session)["data"] == {}
    assert worker.value("list_programs", session=session)["programs"][0]["extra"]["kind"] == "imported"
    assert worker.failure("erase_session").code == "session_required"
