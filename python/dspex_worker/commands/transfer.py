"""The commands that give a whole session away: import from an exported document, and erasure.

The host does the rest: it writes the record, and erases what other places hold of the session.
"""

from __future__ import annotations

from typing import Any

from dspex_worker import state
from dspex_worker.commands import programs
from dspex_worker.commands.arguments import only, session_of
from dspex_worker.commands.sessions import read_choice
from dspex_worker.errors import WorkerError
from dspex_worker.worker import Call, bad_input

__all__ = ["erase_session", "import_session"]

SCHEMA = 1  # key `schema` of a document, contract/sessions.md

# What a document may hold. Only `schema` and `state` count; the rest shows people where it comes from.
_DOCUMENT = ("schema", "session_id", "exported_at", "created_at", "last_activity", "operations", "generation", "state")
_STATE = ("v", "version", "programs", "lm", "history", "data", "created_at")
_LM = ("model", "provider", "temperature", "max_tokens", "api_key")  # a key by reference only
_PROGRAM = ("signature", "program_type", "created_at", "execution_count", "last_executed", "learnt")


def erase_session(call: Call) -> dict[str, Any]:
    """Empties the session like cleanup_session; the host erases its results and dead letters, too."""
    only(call, "session_id")
    session = session_of(call)
    call.state = state.EMPTY if call.state is not None else None
    call.worker.instances.drop(call.held or "")
    return {"status": "erased", "session_id": session}


def import_session(call: Call) -> dict[str, Any]:
    """Makes an exported session this session's state. One that has state already is left alone unless `replace` is true."""
    only(call, "document", "replace", "session_id")
    session = session_of(call)
    replace = call.args.get("replace", False)
    if not isinstance(replace, bool):
        raise bad_input("import_session: replace is no boolean", "args.replace", "true or false")
    found = _state_of(call.args.get("document"))
    if not replace and _occupied(call.need_state()):
        raise WorkerError(
            "session",
            "session_not_empty",
            "the session has state already",
            hint="import into another session, or set `replace` to discard what this one has",
        )
    call.state = _read(call, found)
    return {
        "status": "imported",
        "session_id": session,
        "programs_count": len(call.state.programs),
        "turns": len(call.state.history),
        "revision": call.version + 1,
    }


def _occupied(held: state.State) -> bool:
    return bool(held.programs or held.lm or held.history or held.data)


def _state_of(document: Any) -> dict[str, Any]:
    """The map under `state` of a document whose schema this worker supports; an empty one if it is null."""
    at = "args.document"
    fields = _map(document, at)
    _only(fields, _DOCUMENT, at)
    _schema(fields.get("schema"), SCHEMA, f"{at}.schema")
    if fields.get("state") is None:
        return {}
    found = _map(fields["state"], f"{at}.state")
    _only(found, _STATE, f"{at}.state")
    _schema(found.get("v"), state.SCHEMA, f"{at}.state.v")
    return found


def _schema(value: Any, known: int, at: str) -> None:
    if type(value) is not int or value < 1:
        raise bad_input("import_session: the document has no schema", at, f"an integer from 1 to {known}")
    if value > known:
        raise WorkerError(
            "session",
            "record_newer",
            f"the schema version of the document must be at most {known}, got {value}",
            hint="import it on a host of the newer release",
            path=at,
            expected=f"an integer from 1 to {known}",
        )


def _read(call: Call, found: dict[str, Any]) -> state.State:
    """The state in the map, each part checked as if a client had requested it."""
    at = "args.document.state"
    entries = _map(found.get("programs", {}), f"{at}.programs")
    history = found.get("history", [])
    if not isinstance(history, list):
        raise bad_input("import_session: history is no list", f"{at}.history", "a list of turns")
    choice = found.get("lm")
    if choice is not None:
        _only(_map(choice, f"{at}.lm"), _LM, f"{at}.lm")
    return state.State(
        programs={name: _program(call, name, entry, f"{at}.programs.{name}"[:200]) for name, entry in entries.items()},
        lm=None if choice is None else read_choice(call, choice, f"{at}.lm"),
        history=[_turn(turn, f"{at}.history[{index}]") for index, turn in enumerate(history)],
        data=_map(found.get("data", {}), f"{at}.data"),
        created_at=_text(found.get("created_at"), f"{at}.created_at"),
    )


def _program(call: Call, program_id: str, value: Any, at: str) -> dict[str, Any]:
    entry = _map(value, at)
    _only(entry, _PROGRAM, at)
    count = entry.get("execution_count", 0)
    if type(count) is not int or count < 0:
        raise bad_input("import_session: execution_count is no count", f"{at}.execution_count", "an integer from 0")
    return {
        **programs.read_entry(call, program_id, entry, at),
        "created_at": _text(entry.get("created_at"), f"{at}.created_at") or state.now_text(),
        "execution_count": count,
        "last_executed": _text(entry.get("last_executed"), f"{at}.last_executed"),
    }


def _turn(value: Any, at: str) -> dict[str, Any]:
    turn = _map(value, at)
    _only(turn, ("inputs", "outputs"), at)
    return {name: _map(turn.get(name), f"{at}.{name}") for name in ("inputs", "outputs")}


def _map(value: Any, at: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise bad_input(f"import_session: {at.removeprefix('args.')} is no map", at, "a map")
    return value


def _only(fields: dict[str, Any], known: tuple[str, ...], at: str) -> None:
    extra = sorted(fields.keys() - set(known))
    if extra:
        raise bad_input("import_session: an unknown key in the document", f"{at}.{extra[0][:64]}", ", ".join(known))


def _text(value: Any, at: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise bad_input(f"import_session: {at.removeprefix('args.')} is no text", at, "text or null")
    return value
