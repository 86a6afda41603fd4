"""The command that checks what an operator gives to all hosts."""

from __future__ import annotations

import re
from typing import Any

from dspex_worker.arguments import only, text
from dspex_worker.errors import WorkerError
from dspex_worker.learnt import counts, read_learnt
from dspex_worker.programs import made, program_id_of, unknown_program
from dspex_worker.pushed import SCHEMA, is_pushed, learned
from dspex_worker.worker import Call

__all__ = ["push_program", "withdraw_program"]

_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


def push_program(call: Call) -> dict[str, Any]:
    """Checks a program or a state for all hosts; the host keeps the content of the RESULT."""
    only(call, "id", "signature", "program_type", "state")
    if call.session is not None:
        raise WorkerError(
            "python", "bad_input", "push_program is for all sessions: send it without one", path="args", expected="no session"
        )
    program_id = text(call, "id")
    if not _ID.fullmatch(program_id):
        raise _bad("the id is not allowed", "args.id", "1 to 128 letters, digits or _.:-")
    imported = call.worker.programs.get(program_id)
    if imported is not None:
        for name in ("signature", "program_type"):
            if name in call.args:
                raise _bad(f"{program_id} is a program of the modules, which has its {name}", f"args.{name}", "nothing")
        learnt = read_learnt(call.args.get("state"), "args.state", call.command)
        learned(call.worker, imported, learnt)
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
    if not is_pushed(call.worker, program_id):
        raise unknown_program(call, program_id)
    call.pushed = {"id": program_id, "record": None}
    return {"program_id": program_id, "status": "withdrawn"}


def _no_session(call: Call) -> None:
    if call.session is not None:
        text = f"{call.command} is for all sessions: send it without one"
        raise WorkerError("python", "bad_input", text, path="args", expected="no session")
