"""The table of commands, and the commands about the worker itself.

A command is a function of the Call. It returns the result's value, or a coroutine that will: then the runtime makes a task
of it. Whatever it raises becomes the ERROR. Commands about programs and sessions stand in files of their own.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dspex_worker.commands import programs, transfer
from dspex_worker.commands import sessions as session_commands
from dspex_worker.commands.arguments import only
from dspex_worker.commands.predict import predict
from dspex_worker.commands.pushing import push_program, withdraw_program
from dspex_worker.errors import WorkerError
from dspex_worker.state import now_text
from dspex_worker.system.process import memory
from dspex_worker.worker import Call, bad_input

__all__ = ["BUILTIN", "Command", "unknown"]


@dataclass(frozen=True, slots=True)
class Command:
    """One entry of the table."""

    run: Callable[[Call], Any]
    exclusive: bool = False
    shapes_programs: bool = False  # takes the options signature, outputs and module
    asks_model: bool = True  # takes the options lm and temperature


def ping(call: Call) -> dict[str, Any]:
    """Reports that the worker is alive, and what it is."""
    worker = call.worker
    return {
        "status": "ok",
        "timestamp": now_text(),
        "dspy_available": worker.engine.name == "dspy",
        "gemini_available": any(profile.get("provider") == "gemini" for profile in worker.profiles.values()),
        "uptime": worker.uptime(),
        "mode": worker.config.mode,
        "worker_id": worker.config.worker,
        "current_session": call.session,
    }


def get_stats(call: Call) -> dict[str, Any]:
    """Counts of this worker, and of the programs that this call can see."""
    only(call)
    worker = call.worker
    own = len(call.state.programs) if call.state is not None else 0
    return {
        "programs_count": own + len(worker.programs),
        "command_count": worker.commands,
        "error_count": worker.errors,
        "uptime": worker.uptime(),
        "memory_usage": memory(),
        "dspy_available": worker.engine.name == "dspy",
        "gemini_available": any(profile.get("provider") == "gemini" for profile in worker.profiles.values()),
    }


def shutdown(call: Call) -> dict[str, Any]:
    """Ends the process once the calls that run, and those on their way to it, have ended."""
    only(call, "worker_id")
    worker = call.worker
    named = call.args.get("worker_id")
    if named is not None and named != worker.config.worker:
        raise bad_input("shutdown: worker_id names another worker than this one", "args.worker_id", f"{worker.config.worker}, or nothing")
    worker.leave("shutdown command")
    return {
        "status": "shutting_down",
        "worker_id": worker.config.worker,
        "mode": worker.config.mode,
        "sessions_cleaned": worker.sessions.clear(),
    }


def _replaced(call: Call) -> Any:
    raise WorkerError(
        "python",
        "unsupported_command",
        f"{call.command} is not supported: programs are the same for every language model",
        path="command",
        expected="set_lm to choose the model, then create_program and execute_program",
    )


def unknown(name: str, known: list[str]) -> WorkerError:
    """The error for a command that nobody registered; names those that look like it."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}?" if near else None
    return WorkerError("python", "unknown_command", f"unknown command {name[:64]}", hint=hint, path="command", expected=", ".join(known))


_WITHOUT_MODEL: dict[str, Callable[[Call], Any]] = {
    "ping": ping,
    "get_stats": get_stats,
    "shutdown": shutdown,
    "create_program": programs.create_program,
    "list_programs": programs.list_programs,
    "get_program_info": programs.get_program_info,
    "delete_program": programs.delete_program,
    "push_program": push_program,
    "withdraw_program": withdraw_program,
    "set_lm": session_commands.set_lm,
    "configure_lm": session_commands.set_lm,
    "reset_state": session_commands.reset_state,
    "cleanup": session_commands.cleanup,
    "cleanup_session": session_commands.cleanup_session,
    "erase_session": transfer.erase_session,
    "import_session": transfer.import_session,
    "get_session_data": session_commands.get_session_data,
    "update_session_data": session_commands.update_session_data,
    "create_gemini_program": _replaced,
    "execute_gemini_program": _replaced,
}

BUILTIN: dict[str, Command] = {
    "predict": Command(predict, shapes_programs=True),
    "execute_program": Command(programs.execute_program),
    **{name: Command(run, asks_model=False) for name, run in _WITHOUT_MODEL.items()},
}
