"""Runs the programs of the operator's modules: which object of a program a job gets, and what it takes along of its session."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from dspex_worker.engines import Outcome
from dspex_worker.module_inputs import history_of
from dspex_worker.registry import UserProgram
from dspex_worker.state import now_text

if TYPE_CHECKING:
    from dspex_worker.worker import Call

__all__ = ["Instances", "execute_imported", "executed", "later"]

KEPT = 1024  # objects that sessions have of their own in a worker: as many as sessions whose states it keeps


class Instances:
    """The objects of programs that are made for each session; those used longest ago are dropped."""

    def __init__(self, limit: int = KEPT) -> None:
        self._limit = limit
        self._held: OrderedDict[tuple[str, str], Any] = OrderedDict()

    def of(self, program: UserProgram, session: str | None, learn: Any = None) -> Any:
        """The session's own object; without a session a new one. learn: puts into it what the program has learnt."""
        if not program.per_session:
            return program.made if program.made is not None else program.module
        if session is None:
            return _new(program, learn)
        key = (session, program.id)
        found = self._held.get(key)
        if found is None:
            found = self._held[key] = _new(program, learn)
            if len(self._held) > self._limit:
                self._held.popitem(last=False)
        self._held.move_to_end(key)
        return found

    def drop(self, session: str) -> None:
        """Drops the objects of a session."""
        for key in [key for key in self._held if key[0] == session]:
            del self._held[key]

    def forget(self, program_id: str) -> None:
        """Drops the objects of a program: the next job of each session has a new one."""
        for key in [key for key in self._held if key[1] == program_id]:
            del self._held[key]


def _new(program: UserProgram, learn: Any) -> Any:
    made = program.target()
    if program.state is not None:
        learn(made, program.state)
    return made


def execute_imported(call: Call, program: UserProgram, given: dict[str, Any]) -> Any:
    """Runs one; its inputs are checked first."""
    past = call.state.history if call.state is not None else []
    context = call.context(past)
    history, inputs = None, given
    if program.inputs is not None:
        history = history_of(program.inputs)
        told = given
        if history is not None and history not in given and (call.state is not None or history in program.inputs.required):
            told = {**given, history: {"messages": _conversation(past, program.inputs.known)}}
        inputs = program.inputs.check(told, "args.inputs")
    module = call.worker.instances.of(program, call.held, getattr(call.worker.engine, "learn", None))
    begun = time.perf_counter()

    def finish(outcome: Outcome) -> dict[str, Any]:
        call.usage = outcome.usage or call.usage
        if history is not None and call.state is not None:
            said = {name: value for name, value in given.items() if name != history}
            kept = call.worker.config
            call.state = call.state.with_turn(said, outcome.outputs, kept.history_turns, kept.history_bytes)
        program.execution_count += 1
        program.last_executed = now_text()
        return executed(program.id, outcome, begun)

    return later(call.worker.engine.run_module(module, inputs, context), finish)


def _conversation(past: list[dict[str, Any]], inputs: frozenset[str] | None) -> list[dict[str, Any]]:
    """The session's turns as messages of dspy.History; those of programs with quite other inputs would be empty there."""
    fitting = [turn for turn in past if inputs is None or not inputs.isdisjoint(turn["inputs"])]
    return [{**turn["inputs"], **turn["outputs"]} for turn in fitting]


async def later(run: Coroutine[Any, Any, Outcome], finish: Any) -> Any:
    """What finish makes of the outcome, once it is there."""
    return finish(await run)


def executed(program_id: str, outcome: Outcome, begun: float) -> dict[str, Any]:
    """The result of execute_program."""
    return {
        "program_id": program_id,
        "outputs": outcome.outputs,
        "execution_time": round(time.perf_counter() - begun, 6),
    }
