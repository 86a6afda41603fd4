"""Runs the programs of the operator's modules, with what they need of the job's session."""

from __future__ import annotations

import time
from collections.abc import Coroutine
from typing import Any

from dspex_worker.engines import Outcome
from dspex_worker.registry import UserProgram
from dspex_worker.signatures.module_inputs import history_of
from dspex_worker.state import now_text
from dspex_worker.worker import Call

__all__ = ["execute_imported", "executed", "later"]


def execute_imported(call: Call, program: UserProgram, given: dict[str, Any]) -> Any:
    """Runs one; its inputs are checked first."""
    past = call.state.history if call.state is not None else []
    context = call.context(past)
    history, inputs = None, given
    if program.inputs is not None:
        history = history_of(program.inputs)
        passed = given
        if history is not None and history not in given and (call.state is not None or history in program.inputs.required):
            passed = {**given, history: {"messages": _conversation(past, program.inputs.known)}}
        inputs = program.inputs.check(passed, "args.inputs")
    module = call.worker.instances.of(program, call.held, getattr(call.worker.engine, "learn", None))
    begun = time.perf_counter()

    def finish(outcome: Outcome) -> dict[str, Any]:
        call.usage = outcome.usage or call.usage
        if history is not None and call.state is not None:
            turn = {name: value for name, value in given.items() if name != history}
            kept = call.worker.config
            call.state = call.state.with_turn(turn, outcome.outputs, kept.history_turns, kept.history_bytes)
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
