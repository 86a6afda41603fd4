"""The commands about a session's own state: its language model, its data, and starting again."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from dspex_worker.commands.arguments import only, session_of, text
from dspex_worker.errors import WorkerError
from dspex_worker.state import EMPTY, State
from dspex_worker.worker import Call, bad_input, check_temperature

__all__ = ["cleanup", "cleanup_session", "get_session_data", "read_choice", "reset_state", "set_lm", "update_session_data"]

REFERENCE_MAX = 1024  # characters of a reference to a key
TEMPERATURE = 0.7  # when set_lm names none; an explicit nil leaves the profile's

# OpenAI's reasoning models refuse every temperature but 1: for them the default is the model's own.
_REASONING = re.compile(r"(?:.*/)?(?:o[1345](?:-.*)?|gpt-5(?!.*-chat).*)", re.IGNORECASE)

_FAMILIES = (("gemini", "gemini"), ("gpt-", "openai"), ("chatgpt", "openai"), ("claude", "anthropic"))


def set_lm(call: Call) -> dict[str, Any]:
    """Chooses the language model of this session; without a session, the one of all that choose none.

    The host finds the profile for it. A key never comes this way: api_key can only refer to one that the host allows.
    """
    only(call, "model", "provider", "api_key", "temperature", "max_tokens", "session_id")
    choice = read_choice(call, call.args, "args")
    call.lm_choice = choice
    if call.state is not None:
        call.state = replace(call.state, lm=choice)
    return {
        "status": "configured",
        "model": choice["model"],
        "provider": call.lm["provider"] if call.lm is not None else choice.get("provider", _provider(choice["model"])),
        "temperature": choice["temperature"],
    }


def read_choice(call: Call, fields: dict[str, Any], at: str) -> dict[str, Any]:
    """The choice of language model in the fields; at is where they stand in the request.

    A key is in it by reference only. The host judges the reference each time that it uses the choice.
    """
    model, provider = fields.get("model"), fields.get("provider")
    choice: dict[str, Any] = {}
    for name, value in (("model", model), ("provider", provider)):
        if name == "provider" and value is None:
            continue
        if not isinstance(value, str) or not value:
            found = "it is missing" if name not in fields else f"not {type(value).__name__ if value != '' else 'an empty one'}"
            raise bad_input(f"{call.command}: {name} must be a str, {found}", f"{at}.{name}", "text that is not empty")
        choice[name] = value
    own = None if _REASONING.fullmatch(choice["model"]) else TEMPERATURE
    choice["temperature"] = check_temperature(fields.get("temperature", own), bad_input, f"{at}.temperature")
    tokens = fields.get("max_tokens")
    if tokens is not None:
        if type(tokens) is not int or not 1 <= tokens <= 10_000_000:
            raise bad_input(f"{call.command}: max_tokens is out of range", f"{at}.max_tokens", "an integer from 1 to 10000000")
        choice["max_tokens"] = tokens
    reference = fields.get("api_key")
    if reference is not None:
        choice["api_key"] = _reference(call, reference, f"{at}.api_key")
    return choice


def _reference(call: Call, reference: Any, path: str) -> str:
    if not isinstance(reference, str) or not reference.startswith(("env:", "file:")):
        raise WorkerError(
            "python",
            "secret_in_request",
            f"{call.command}: the request contains an API key; it would be stored with the job",
            hint="configure an LM profile with a reference to the key on the worker-host, and name that profile or its model here",
            path=path,
            expected="env:NAME or file:PATH",
        )
    if len(reference) > REFERENCE_MAX:
        raise bad_input(f"{call.command}: api_key is too long", path, f"at most {REFERENCE_MAX} characters")
    return reference


def _provider(model: str) -> str | None:
    """The provider that a model's name contains; None for the name of a profile or an unknown family."""
    prefix, slash, _ = model.partition("/")
    if slash:
        return prefix
    return next((provider for start, provider in _FAMILIES if model.startswith(start)), None)


def _programs(call: Call) -> int:
    return len(call.state.programs) if call.state is not None else 0


def _emptied(call: Call) -> None:
    """Replaces the state by the empty one, unless it is that already: then nothing has to be stored."""
    state = call.state
    call.worker.instances.drop(call.held or "")
    if state is not None and state != EMPTY:
        call.state = State(created_at=state.created_at)


def reset_state(call: Call) -> dict[str, Any]:
    """Starts the session again (programs, language model, history, data) and the worker's counters with it."""
    only(call, "session_id")
    worker = call.worker
    result = {
        "status": "reset",
        "programs_cleared": _programs(call),
        "commands_reset": worker.commands,
        "errors_reset": worker.errors,
    }
    _emptied(call)
    worker.commands = worker.errors = 0
    return result


def cleanup(call: Call) -> dict[str, Any]:
    """Removes the session's programs; the rest of its state stays."""
    only(call, "session_id")
    removed = _programs(call)
    if removed:
        call.state = replace(call.need_state(), programs={})
    return {"status": "cleaned", "programs_removed": removed}


def cleanup_session(call: Call) -> dict[str, Any]:
    """Removes all of the session's state. It may be repeated."""
    only(call, "session_id")
    session = session_of(call)
    removed = _programs(call)
    _emptied(call)
    return {"status": "cleaned", "session_id": session, "programs_removed": removed}


def get_session_data(call: Call) -> dict[str, Any]:
    """What update_session_data has written, with the revision of the session's state."""
    only(call, "session_id")
    session = session_of(call)
    return {"session_id": session, "data": call.need_state().data, "revision": call.version}


def update_session_data(call: Call) -> dict[str, Any]:
    """Changes the session's data: set a key, delete one, or merge a map into a key's map (without key: into all)."""
    only(call, "session_id", "operation", "key", "value")
    session = session_of(call)
    state = call.need_state()
    operation = text(call, "operation")
    if operation not in ("set", "delete", "merge"):
        raise bad_input("update_session_data: unknown operation", "args.operation", "set, delete or merge")
    whole = operation == "merge" and call.args.get("key") is None
    data = dict(state.data)
    if whole:
        data.update(_map(call))
    else:
        _change(call, operation, data, text(call, "key"))
    call.state = replace(state, data=data)
    return {"session_id": session, "status": "updated", "revision": call.version + 1}


def _change(call: Call, operation: str, data: dict[str, Any], key: str) -> None:
    if operation == "delete":
        data.pop(key, None)
    elif "value" not in call.args:
        raise bad_input(f"update_session_data: {operation} needs a value", "args.value", "any value")
    elif operation == "set":
        data[key] = call.args["value"]
    else:
        held = data.get(key, {})
        if not isinstance(held, dict):
            raise bad_input("update_session_data: cannot merge, the key holds no map", "args.key", "a key that holds a map, or nothing yet")
        data[key] = {**held, **_map(call)}


def _map(call: Call) -> dict[str, Any]:
    value = call.args.get("value")
    if not isinstance(value, dict):
        raise bad_input("update_session_data: merge needs a map as value", "args.value", "a map")
    return value
