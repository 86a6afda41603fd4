"""Reading the arguments of commands: what must be there, what may, and nothing else."""

from __future__ import annotations

from typing import Any

from dspex_worker.errors import WorkerError
from dspex_worker.worker import Call, bad_input

__all__ = ["only", "session_of", "text"]


def only(call: Call, *known: str) -> None:
    """Refuses arguments that the command does not have: they would have no effect. session_id must name the call's session."""
    extra = sorted(call.args.keys() - set(known))
    if extra:
        unknown = ", ".join(name[:64] for name in extra[:8])
        raise bad_input(f"{call.command}: unknown arguments: {unknown}", f"args.{extra[0][:64]}", ", ".join(known) or "no arguments")
    if "session_id" in known and call.args.get("session_id") is not None:
        session_of(call)


def text(call: Call, name: str) -> str:
    """A required argument that is a str and not empty."""
    value: Any = call.args.get(name)
    if not isinstance(value, str) or not value:
        found = "it is missing" if name not in call.args else f"not {type(value).__name__ if value != '' else 'an empty one'}"
        raise bad_input(f"{call.command}: {name} must be a str, {found}", f"args.{name}", "text that is not empty")
    return value


def session_of(call: Call) -> str:
    """The call's session. The argument session_id may repeat it: no call reaches into another session."""
    named = call.args.get("session_id")
    if call.session is None:
        call.need_state()
    if named is not None and named != call.session:
        raise WorkerError(
            "session",
            "session_mismatch",
            f"{call.command}: session_id names another session than the one that this job runs in",
            hint="send the job to that session",
            path="args.session_id",
            expected="the session that the job runs in, or nothing",
        )
    return str(call.session)
