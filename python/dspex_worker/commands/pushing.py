"""Programs that an operator gives to all hosts: what a program of the modules has learnt, or a whole program.

A worker checks one (push_program), the host keeps it and sends it to each worker before its next call (frame PROGRAM). A record that does
not fit what the worker has, because the modules are others by now, is not used; get_program_info reports why.
"""

from __future__ import annotations

import copy
import logging
from typing import Any

from dspex_worker.commands.arguments import only, text
from dspex_worker.commands.programs import PROGRAM_ID, made, program_id_of, unknown_program
from dspex_worker.errors import WorkerError, describe
from dspex_worker.learnt import checked_learnt, counts, read_learnt
from dspex_worker.pushed import Pushed
from dspex_worker.registry import UserProgram
from dspex_worker.worker import Call, Worker

__all__ = ["push_program", "take", "withdraw_program"]

SCHEMA = 1  # key `v` of a record
_log = logging.getLogger("dspex.worker")


def push_program(call: Call) -> dict[str, Any]:
    """Checks a program or a state for all hosts; the host keeps the content of the RESULT."""
    only(call, "id", "signature", "program_type", "state")
    _no_session(call)
    program_id = text(call, "id")
    if not PROGRAM_ID.fullmatch(program_id):
        raise _bad("the id is not allowed", "args.id", "1 to 128 letters, digits or _.:-")
    imported = call.worker.programs.get(program_id)
    if imported is not None:
        for name in ("signature", "program_type"):
            if name in call.args:
                raise _bad(f"{program_id} is a program of the modules, which has its {name}", f"args.{name}", "nothing")
        learnt = read_learnt(call.args.get("state"), "args.state", call.command)
        _learned(call.worker, imported, learnt)
        record: dict[str, Any] = {"learnt": learnt}
    elif "signature" not in call.args:
        raise _bad(f"no module has a program {program_id}, and there is no signature", "args.signature", "a signature")
    else:
        record, _ = made(call)
        learnt = record.get("learnt") or {}
    call.pushed = {"id": program_id, "record": {"v": SCHEMA, **record}}
    return {"program_id": program_id, "status": "pushed", **counts(learnt)}


def _bad(message: str, at: str, expected: str) -> WorkerError:
    return WorkerError("python", "bad_input", f"push_program: {message}", path=at, expected=expected)


def withdraw_program(call: Call) -> dict[str, Any]:
    """Takes back what was pushed: a program of the modules is then as they have it, another one is gone."""
    only(call, "program_id")
    _no_session(call)
    program_id = program_id_of(call)
    if not _is_pushed(call.worker, program_id):
        raise unknown_program(call, program_id)
    call.pushed = {"id": program_id, "record": None}
    return {"program_id": program_id, "status": "withdrawn"}


def _no_session(call: Call) -> None:
    if call.session is not None:
        text = f"{call.command} is for all sessions: send it without one"
        raise WorkerError("python", "bad_input", text, path="args", expected="no session")


def _is_pushed(worker: Worker, program_id: str) -> bool:
    """Whether there is a record for the id."""
    imported = worker.programs.get(program_id)
    return program_id in worker.pushed or (imported is not None and imported.learnt is not None)


def take(worker: Worker, program_id: str, version: int, record: dict[str, Any] | None) -> None:
    """Uses a record from now on; None: there is none any more."""
    worker.pushed.pop(program_id, None)
    imported = worker.programs.get(program_id)
    if imported is not None:
        imported.state, imported.learnt, imported.made = None, None, imported.module
        worker.instances.forget(program_id)
    if record is None:
        return
    try:
        _use(worker, program_id, imported, version, record)
    except Exception as error:  # what does not fit must not end the worker
        failure = describe(error)
        if imported is not None:
            imported.learnt = {"version": version, "error": failure.message}
        _log.warning("the pushed program %s (version %d) is not used: %s", program_id, version, failure.message)


def _use(worker: Worker, program_id: str, imported: UserProgram | None, version: int, record: dict[str, Any]) -> None:
    if record.get("v") != SCHEMA:
        raise ValueError(f"the schema of its record must be {SCHEMA}, got {record.get('v')}")
    learnt = checked_learnt(record["learnt"], "record", "push_program") if record.get("learnt") is not None else None
    if imported is None:
        if "signature" not in record:
            raise ValueError("no module has a program of that id")
        entry = {key: value for key, value in record.items() if key != "v"}
        worker.pushed[program_id] = Pushed(entry, version)
        return
    if learnt is None:
        raise ValueError("a program of the modules has that id by now")
    imported.made = _learned(worker, imported, learnt)
    imported.state, imported.learnt = learnt, {**counts(learnt), "version": version}


def _learned(worker: Worker, program: UserProgram, learnt: dict[str, Any]) -> Any:
    """An object of the program that has learnt this; the program's own stays as it is."""
    learn = getattr(worker.engine, "learn", None)
    if learn is None:
        raise WorkerError("python", "bad_input", f"the engine {worker.engine.name} has no programs that learn", path="args.state")
    target = program.target
    module = target() if isinstance(target, type) else getattr(target, "deepcopy", lambda: copy.deepcopy(target))()
    learn(module, learnt)
    return module
