"""Programs that an operator gave to all hosts: what a program of the modules has learnt, or a whole program.

The host keeps them and sends them to each worker before its next call (frame PROGRAM). A record that does not fit what the worker has,
because the modules are others by now, is not used; get_program_info reports why.
"""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dspex_worker.errors import WorkerError, describe
from dspex_worker.learnt import checked_learnt, counts
from dspex_worker.registry import UserProgram
from dspex_worker.state import now_text

if TYPE_CHECKING:
    from dspex_worker.worker import Worker

__all__ = ["Pushed", "is_pushed", "learned", "take"]

SCHEMA = 1  # key `v` of a record
_log = logging.getLogger("dspex.worker")


@dataclass
class Pushed:
    """A whole program, with a signature of its own."""

    entry: dict[str, Any]  # as a session has them
    version: int
    execution_count: int = 0
    last_executed: str | None = None

    def ran(self) -> None:
        """Counts a run."""
        self.execution_count += 1
        self.last_executed = now_text()

    def told(self) -> dict[str, Any]:
        """What get_program_info returns of what it has learnt."""
        return {**counts(self.entry.get("learnt") or {}), "version": self.version}


def is_pushed(worker: Worker, program_id: str) -> bool:
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
    imported.made = learned(worker, imported, learnt)
    imported.state, imported.learnt = learnt, {**counts(learnt), "version": version}


def learned(worker: Worker, program: UserProgram, learnt: dict[str, Any]) -> Any:
    """An object of the program that has learnt this; the program's own stays as it is."""
    learn = getattr(worker.engine, "learn", None)
    if learn is None:
        raise WorkerError("python", "bad_input", f"the engine {worker.engine.name} has no programs that learn", path="args.state")
    target = program.target
    module = target() if isinstance(target, type) else getattr(target, "deepcopy", lambda: copy.deepcopy(target))()
    learn(module, learnt)
    return module
