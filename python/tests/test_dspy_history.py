"""The turns of a session reach the prompt, whatever signature they were made with."""

from __future__ import annotations

from typing import Any

import pytest

from dspex_worker.engines.dspy_engine import DSPyEngine
from tests.dspy_case import context, profile, program, scenario
from tests.fake_lm import FakeLM, Reply


def turn(inputs: dict[str, Any], outputs: dict[str, Any]) -> dict[str, Any]:
    return {"inputs": inputs, "outputs": outputs}


def roles(server: FakeLM) -> list[str]:
    return [message["role"] for message in server.requests[-1].body["messages"]]


def test_turns_of_the_same_signature_become_messages() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        turns = [turn({"question": "My name is Ada."}, {"answer": "Hello Ada."}), turn({"question": "And 2+2?"}, {"answer": "4"})]
        await engine.run(program(), {"question": "Who am I?"}, context(profile(server), history=turns))
        messages = server.requests[-1].body["messages"]
        assert roles(server) == ["system", "user", "assistant", "user", "assistant", "user"]
        assert "My name is Ada." in messages[1]["content"]
        assert "Hello Ada." in messages[2]["content"]
        assert "And 2+2?" in messages[3]["content"]
        assert "Who am I?" in messages[5]["content"]
        assert "Ada" not in messages[5]["content"]

    scenario(steps)


@pytest.mark.parametrize("module", ["predict", "chain_of_thought", "react"])
@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ({"text": "mark-in"}, {"summary": "mark-out"}),
        ({"text": "mark-in", "limit": 5}, {"summary": "mark-out", "score": 2}),
        ({"question": "known", "style": "mark-in"}, {"answer": "known", "extra": "mark-out"}),
        ({"text": {"deep": ["mark-in"]}}, {"summary": {"deep": ["mark-out"]}}),
        ({"text": {"tool_calls": "mark-in"}}, {"answer": {"tool_calls": ["mark-out"]}}),
        ({"question": {"tool_calls": "mark-in"}}, {"answer": "mark-out", "reasoning": "why"}),
        ({"question": "mark-in"}, {"reasoning": "mark-out"}),
    ],
)
def test_turns_of_other_signatures_still_show_their_text(module: str, inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        if module == "react":
            server.script = [Reply({"next_thought": "t", "next_tool_name": "finish", "next_tool_args": {}})]
        await engine.run(program(module=module), {"question": "now"}, context(profile(server), history=[turn(inputs, outputs)]))
        for request in server.requests:
            assert "mark-in" in request.prompt
            assert "mark-out" in request.prompt

    scenario(steps)


def test_outputs_that_a_turn_lacks_are_not_shown_as_none() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        turns = [turn({"question": "q"}, {"answer": "a"})]
        await engine.run(program("question -> answer, score: float"), {"question": "now"}, context(profile(server), history=turns))
        said = server.requests[-1].body["messages"][2]["content"]
        assert "None" not in said
        assert "(not given in this turn)" in said

    scenario(steps)


def test_a_declared_history_takes_the_turns_under_its_own_name() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        spec = "question, past: history -> answer"
        await engine.run(
            program(spec), {"question": "now"}, context(profile(server), history=[turn({"question": "before"}, {"answer": "x"})])
        )
        assert roles(server) == ["system", "user", "assistant", "user"]
        await engine.run(program(spec), {"question": "now"}, context(profile(server)))
        assert roles(server) == ["system", "user"]

    scenario(steps)


def test_a_history_that_the_caller_gives_wins_over_the_sessions() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        inputs = {"question": "now", "past": [{"question": "given", "answer": "mine"}]}
        turns = [turn({"question": "of the session"}, {"answer": "x"})]
        await engine.run(program("question, past: history -> answer"), inputs, context(profile(server), history=turns))
        assert "given" in server.requests[-1].prompt
        assert "of the session" not in server.requests[-1].prompt

    scenario(steps)


def test_a_field_that_is_called_history_by_chance_stays_what_it_is() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        turns = [turn({"question": "before"}, {"answer": "x"})]
        await engine.run(program("history -> answer"), {"history": "of Rome"}, context(profile(server), history=turns))
        messages = server.requests[-1].body["messages"]
        assert "of Rome" in messages[-1]["content"]
        assert "before" in messages[1]["content"]

    scenario(steps)
