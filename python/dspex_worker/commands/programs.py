"""The commands of the programs that a session keeps."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from typing import Any

from dspex_worker.commands.arguments import only, text
from dspex_worker.commands.imported import execute_imported, executed, later
from dspex_worker.engines import Outcome, Program
from dspex_worker.errors import WorkerError
from dspex_worker.learnt import checked_learnt, counts, read_learnt
from dspex_worker.protocol import wire
from dspex_worker.pushed import Pushed
from dspex_worker.registry import UserProgram
from dspex_worker.signatures.fit import check_inputs
from dspex_worker.signatures.signature import MODULES, SpecError, check_module, parse_signature
from dspex_worker.state import now_text
from dspex_worker.worker import Call, bad_input

__all__ = [
    "PROGRAM_ID",
    "checked",
    "create_program",
    "delete_program",
    "execute_program",
    "get_program_info",
    "list_programs",
    "made",
    "program_id_of",
    "read_entry",
    "read_module",
    "read_program",
    "remember",
    "unknown_program",
]

PROGRAM_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")

# Programs by their canonical spelling. Reading a signature costs more than running the stub.
_read: dict[bytes, Program] = {}
_READ_MAX = 512


def _refusal(call: Call, code: str, error: SpecError, at: str) -> WorkerError:
    """The failure that a SpecError means; at is where the thing stands in the body."""
    path = ".".join(part for part in (at, error.path) if part)
    return WorkerError("python", code, f"{call.command}: {error.message}", path=path, expected=error.expected or None)


def read_program(call: Call, spec: Any, module: Any, at: str = "args", learnt: dict[str, Any] | None = None) -> Program:
    """The program of a signature in either form, a module and what it has learnt; an error reports what is wrong with them."""
    key = wire.encode([spec, module, learnt])
    found = _read.get(key)
    if found is None:
        try:
            found = Program(parse_signature(spec), module, learnt, hashlib.sha256(key).hexdigest() if learnt is not None else "")
            check_module(found.signature, module)
        except SpecError as error:
            raise _refusal(call, "bad_signature", error, at) from None
        if len(_read) >= _READ_MAX:
            _read.clear()
        _read[key] = found
    return found


def read_module(value: Any, refuse: Callable[[str, str, str], WorkerError], path: str) -> str:
    if not isinstance(value, str) or value not in MODULES:
        raise refuse("unknown module", path, ", ".join(MODULES))
    return value


def checked(call: Call, program: Program, given: Any, at: str) -> dict[str, Any]:
    try:
        return check_inputs(program.signature, given)
    except SpecError as error:
        raise bad_input(f"{call.command}: {error.message}", at, error.expected) from None


def remember(call: Call, program: Program, inputs: dict[str, Any], outcome: Outcome) -> None:
    if call.state is None:
        return
    config = call.worker.config
    said = {name: value for name, value in inputs.items() if name != program.signature.has_history}
    call.state = call.state.with_turn(said, outcome.outputs, config.history_turns, config.history_bytes)


def create_program(call: Call) -> str:
    """Keeps a program in the session under the caller's id; the result is that id."""
    only(call, "id", "signature", "program_type", "state", "session_id")
    state = call.need_state()
    program_id = text(call, "id")
    if not PROGRAM_ID.fullmatch(program_id):
        raise bad_input("create_program: the id is not allowed", "args.id", "1 to 128 letters, digits or _.:-")
    if "signature" not in call.args:
        shape = "{name, description, inputs[{name, type}], outputs[{name, type}]}, or text such as question -> answer"
        raise bad_input("create_program: the signature is missing", "args.signature", shape)
    entry, program = made(call)
    held = state.programs.get(program_id)
    if held is not None and _same(_held(call, held), program):
        return program_id
    if held is not None or program_id in call.worker.programs or program_id in call.worker.pushed:
        raise WorkerError(
            "python",
            "program_exists",
            f"another program has the id {program_id}",
            hint="delete_program it first, or choose another id",
            path="args.id",
            expected="an id that is free",
        )
    call.state = state.with_program(program_id, entry)
    return program_id


def made(call: Call) -> tuple[dict[str, Any], Program]:
    """The entry of a new program, and the program, from the arguments signature, program_type and state."""
    module = read_module(call.args.get("program_type", "predict"), bad_input, "args.program_type")
    given = call.args.get("state")
    learnt = read_learnt(given, "args.state", call.command) if given is not None else None
    program = read_program(call, call.args["signature"], module, learnt=learnt)
    if learnt is not None:
        _check_learnt(call, program)
    entry = {
        "signature": program.signature.to_map(),
        "program_type": module,
        "created_at": now_text(),
        "execution_count": 0,
        "last_executed": None,
    }
    return (entry if learnt is None else {**entry, "learnt": learnt}), program


def _check_learnt(call: Call, program: Program) -> None:
    check = getattr(call.worker.engine, "check", None)
    if check is not None:
        check(program)


def _same(one: Program, other: Program) -> bool:
    return one.module == other.module and one.signature.key() == other.signature.key() and one.learnt == other.learnt


def read_entry(call: Call, program_id: str, entry: dict[str, Any], at: str) -> dict[str, Any]:
    """What a program of an exported session is: its signature and type. Errors have their place in the request."""
    if not PROGRAM_ID.fullmatch(program_id):
        raise bad_input(f"{call.command}: the id of a program is not allowed", at, "1 to 128 letters, digits or _.:-")
    if program_id in call.worker.programs:
        raise WorkerError(
            "python",
            "program_exists",
            f"the operator's modules have a program with the id {program_id}",
            hint="choose another id for the program in the document",
            path=at,
            expected="an id that is free",
        )
    module = read_module(entry.get("program_type"), bad_input, f"{at}.program_type")
    program = read_program(call, entry.get("signature"), module, at)
    found: dict[str, Any] = {"signature": program.signature.to_map(), "program_type": module}
    if entry.get("learnt") is not None:
        found["learnt"] = checked_learnt(entry["learnt"], f"{at}.learnt", call.command)
        _check_learnt(call, read_program(call, entry.get("signature"), module, at, found["learnt"]))
    return found


def _held(call: Call, entry: dict[str, Any]) -> Program:
    return read_program(call, entry["signature"], entry["program_type"], learnt=entry.get("learnt"))


def program_id_of(call: Call) -> str:
    """The argument program_id: the id, or the map around it that the original's create_program answered."""
    value = call.args.get("program_id")
    if isinstance(value, dict):
        value = value.get("program_id", value.get("id"))
    if not isinstance(value, str) or not value:
        raise bad_input(f"{call.command}: program_id is missing or no id", "args.program_id", "the id that create_program answered")
    return value


def unknown_program(call: Call, program_id: str) -> WorkerError:
    own = call.state.programs if call.state is not None else ()
    known = sorted({*own, *call.worker.programs, *call.worker.pushed})
    listed = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
    if call.state is None:
        hint = "programs belong to sessions; send the job to the session that created it"
    else:
        hint = "programs belong to their session" if known else "this session has no programs; create_program first"
    return WorkerError(
        "session",
        "program_unknown",
        f"unknown program {program_id[:128]}",
        hint=hint,
        path="args.program_id",
        expected=listed or "a program's id",
    )


def execute_program(call: Call) -> Any:
    """Runs a program of the session, or one of the operator's modules."""
    only(call, "program_id", "inputs", "session_id")
    program_id = program_id_of(call)
    inputs = call.args.get("inputs")
    if not isinstance(inputs, dict):
        raise bad_input("execute_program: the inputs are missing or no map", "args.inputs", "a map of names to values")
    entry = call.state.programs.get(program_id) if call.state is not None else None
    if entry is not None:
        return _execute(call, program_id, entry, inputs)
    imported = call.worker.programs.get(program_id)
    if imported is not None:
        return execute_imported(call, imported, inputs)
    shared = call.worker.pushed.get(program_id)
    if shared is None:
        raise unknown_program(call, program_id)
    return _execute(call, program_id, shared.entry, inputs, shared)


def _execute(call: Call, program_id: str, entry: dict[str, Any], given: dict[str, Any], shared: Pushed | None = None) -> Any:
    past = call.state.history if call.state is not None else []
    program = _held(call, entry)
    inputs = checked(call, program, given, "args.inputs")
    own_history = program.signature.has_history
    context = call.context(past if own_history is not None and own_history not in inputs else [])
    begun = time.perf_counter()

    def finish(outcome: Outcome) -> dict[str, Any]:
        call.usage = outcome.usage or call.usage
        if own_history is not None:
            remember(call, program, inputs, outcome)
        if shared is not None:
            shared.ran()
        else:
            counted = {**entry, "execution_count": entry["execution_count"] + 1, "last_executed": now_text()}
            call.state = call.need_state().with_program(program_id, counted)
        return executed(program_id, outcome, begun)

    outcome = call.worker.engine.run_inline(program, inputs, context)
    if outcome is not None:
        return finish(outcome)
    return later(call.worker.engine.run(program, inputs, context), finish)


def _listed(call: Call, program_id: str, entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": program_id,
        "created_at": entry["created_at"],
        "execution_count": entry["execution_count"],
        "last_executed": entry["last_executed"],
        "signature": entry["signature"],
        "session_id": call.session,
        "extra": {"kind": "session", "learnt": counts(entry["learnt"]) if "learnt" in entry else None},
    }


def _listed_pushed(program_id: str, program: Pushed) -> dict[str, Any]:
    return {
        "id": program_id,
        "created_at": program.entry["created_at"],
        "execution_count": program.execution_count,
        "last_executed": program.last_executed,
        "signature": program.entry["signature"],
        "session_id": None,
        "extra": {"kind": "pushed", "learnt": program.summary()},
    }


def _listed_imported(call: Call, program: UserProgram) -> dict[str, Any]:
    return {
        "id": program.id,
        "created_at": call.worker.started_at,
        "execution_count": program.execution_count,
        "last_executed": program.last_executed,
        "signature": program.signature,
        "session_id": None,
        "extra": {"kind": "imported", "learnt": program.learnt},
    }


def list_programs(call: Call) -> dict[str, Any]:
    """The programs of the session, then those of the operator's modules. Without a session only the latter."""
    only(call, "session_id")
    own = call.state.programs if call.state is not None else {}
    listed = [_listed(call, program_id, entry) for program_id, entry in own.items()]
    listed += [_listed_imported(call, program) for program in call.worker.programs.values()]
    listed += [_listed_pushed(program_id, program) for program_id, program in call.worker.pushed.items()]
    return {"programs": listed, "total_count": len(listed)}


def get_program_info(call: Call) -> dict[str, Any]:
    """What is known of one program."""
    only(call, "program_id", "session_id")
    program_id = program_id_of(call)
    entry = call.state.programs.get(program_id) if call.state is not None else None
    if entry is not None:
        found, kind = _listed(call, program_id, entry), entry["program_type"]
    else:
        found, kind = _found(call, program_id)
    names = [field["name"] for side in ("inputs", "outputs") for field in (found["signature"] or {}).get(side, ())]
    shared = ("signature", "created_at", "execution_count", "last_executed")
    return {
        "program_id": program_id,
        "program_type": kind,
        # Names are never rewritten here; the original renamed fields and listed them in this map.
        "field_mapping": {name: name for name in names},
        **{key: found[key] for key in shared},
        "extra": {**found["extra"], "session_id": found["session_id"]},
    }


def _found(call: Call, program_id: str) -> tuple[dict[str, Any], str]:
    imported, shared = call.worker.programs.get(program_id), call.worker.pushed.get(program_id)
    if imported is not None:
        return _listed_imported(call, imported), "imported"
    if shared is None:
        raise unknown_program(call, program_id)
    return _listed_pushed(program_id, shared), shared.entry["program_type"]


def delete_program(call: Call) -> dict[str, Any]:
    """Removes a program from the session."""
    only(call, "program_id", "session_id")
    program_id = program_id_of(call)
    if program_id in call.worker.programs or program_id in call.worker.pushed:
        raise bad_input(f"delete_program: {program_id} belongs to the operator", "args.program_id", "a program of the session")
    state = call.need_state()
    if program_id not in state.programs:
        raise unknown_program(call, program_id)
    call.state = state.with_program(program_id, None)
    return {"program_id": program_id, "status": "deleted"}
