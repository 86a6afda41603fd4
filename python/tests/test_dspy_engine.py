"""The DSPy engine runs programs against a server on this machine: outputs, modules, usage, settings, tenants."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import dspy
import pytest

from dspex_worker.engines import Program
from dspex_worker.engines.dspy_engine import DSPyEngine
from dspex_worker.signatures.signature import SignatureError, check_module, infer_signature
from tests.dspy_case import KEY, context, failure, profile, program, scenario
from tests.fake_lm import FakeLM, Reply, Request


def test_predict_returns_exactly_the_outputs_and_the_reported_usage() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        server.script = [Reply({"answer": "Paris", "score": 0.5, "tags": ["a"], "more": "dropped"})]
        spec = "question -> answer, score: float, tags: list[str]"
        outcome = await engine.run(program(spec), {"question": "Capital?"}, context(profile(server)))
        assert outcome.outputs == {"answer": "Paris", "score": 0.5, "tags": ["a"]}
        assert outcome.usage == {"openai/gpt-4o-mini": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}
        assert "Capital?" in server.requests[0].prompt

    scenario(steps)


@pytest.mark.parametrize(
    ("kind", "said", "value"),
    [
        ("string", "two\nlines", "two\nlines"),
        ("integer", "42", 42),
        ("number", "2", 2.0),
        ("boolean", "True", True),
        ("list[string]", '["a", "b"]', ["a", "b"]),
        ("list[list[integer]]", "[[1], [2, 3]]", [[1], [2, 3]]),
        ("dict[string, number]", '{"a": 1.5}', {"a": 1.5}),
        ("dict[string, list[Optional[integer]]]", '{"a": [1, null]}', {"a": [1, None]}),
        ("Optional[integer]", "7", 7),
        ("Optional[integer]", "null", None),
        ("Literal['yes', 'no']", "yes", "yes"),
        ("Literal[1, 2]", "2", 2),
        ("list", '[1, "a", null]', [1, "a", None]),
        ("dict", '{"a": {"b": [true]}}', {"a": {"b": [True]}}),
        ("any", '{"a": 1}', {"a": 1}),
        ("json", "plain words", "plain words"),
    ],
)
def test_every_type_comes_back_as_what_it_says(kind: str, said: str, value: object) -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        server.script = [Reply(text=f"[[ ## out ## ]]\n{said}\n\n[[ ## completed ## ]]")]
        spec = {"inputs": [{"name": "given", "type": kind}], "outputs": [{"name": "out", "type": kind}]}
        outcome = await engine.run(program(spec), {"given": value}, context(profile(server)))
        assert outcome.outputs == {"out": value}
        assert type(outcome.outputs["out"]) is type(value)

    scenario(steps)


def test_an_output_that_is_left_out_is_none_only_when_it_is_optional() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        server.script = lambda request: Reply({"a": "x"})
        outcome = await engine.run(program("q -> a, b: Optional[str]"), {"q": "?"}, context(profile(server)))
        assert outcome.outputs == {"a": "x", "b": None}
        error = await failure(engine.run(program("q -> a, b: str"), {"q": "?"}, context(profile(server))))
        assert (error.category, error.code, error.retryable) == ("python", "lm_answer_unreadable", True)

    scenario(steps)


def test_descriptions_and_names_reach_the_prompt() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        spec = {
            "name": "Sum",
            "description": "Add them up carefully.",
            "inputs": [{"name": "numbers", "type": "list[integer]", "description": "what to add"}],
            "outputs": [{"name": "total", "type": "integer", "description": "the sum"}],
        }
        outcome = await engine.run(program(spec), {"numbers": [1, 2]}, context(profile(server)))
        assert outcome.outputs == {"total": 7}
        for text in ("Add them up carefully.", "what to add", "the sum", "[1, 2]"):
            assert text in server.requests[0].prompt

    scenario(steps)


def test_predict_without_a_signature_takes_any_map() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        args = {"text": "Long text", "max_length": 50, "options": ["a", "b"], "style": None, "nested": {"deep": [1.5]}}
        outcome = await engine.run(Program(infer_signature(args)), args, context(profile(server)))
        assert outcome.outputs == {"answer": "echo of Long text"}

    scenario(steps)


def test_a_chain_of_thought_also_returns_its_reasoning() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        server.script = [Reply({"reasoning": "because", "answer": "42"})]
        outcome = await engine.run(program(module="chain_of_thought"), {"question": "?"}, context(profile(server)))
        assert outcome.outputs == {"reasoning": "because", "answer": "42"}

    scenario(steps)


@pytest.mark.parametrize(("module", "spec"), [("chain_of_thought", "q -> reasoning, a"), ("react", "trajectory -> a"), ("magic", "q -> a")])
def test_a_module_that_does_not_suit_the_signature_is_refused_before_the_model_is_called(module: str, spec: str) -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        error = await failure(engine.run(program(spec, module), {"q": "?"}, context(profile(server))))
        assert (error.category, error.code, error.retryable) == ("python", "bad_signature", False)
        assert server.requests == []

    scenario(steps)


def test_every_name_that_the_grammar_allows_works_in_dspy() -> None:
    owners = (dspy.Signature, type(dspy.Signature), dspy.Prediction, dspy.Predict("a -> b"), dspy.Adapter, dspy.LM, dspy.Example)
    names = {name for owner in owners for name in dir(owner)}
    names |= {"args", "kwargs", "inputs", "outputs", "completed", "history", "tools", "program", "cls", "fn"}
    tried = 0

    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        nonlocal tried
        for name in sorted(names):
            for spec, inputs in ((f"{name}, zq -> za", {name: "given", "zq": "x"}), (f"zq -> {name}, za", {"zq": "given"})):
                for module in ("predict", "chain_of_thought", "react"):
                    try:
                        made = program(spec, module)
                        check_module(made.signature, module)
                    except SignatureError:
                        continue
                    server.script = agent(("finish", {}))[:1] if module == "react" else []
                    outcome = await engine.run(made, inputs, context(profile(server)))
                    for field in made.signature.outputs:
                        assert outcome.outputs[field.name] == "echo of given", (spec, module)
                    tried += 1

    scenario(steps)
    assert tried > 300


def agent(*calls: tuple[str, dict[str, Any]]) -> list[Reply]:
    """The answers of a model that uses tools, one after the other, and then gives `answer`."""
    said = [Reply({"next_thought": "hm", "next_tool_name": name, "next_tool_args": args}) for name, args in calls]
    return [*said, Reply({"reasoning": "r", "answer": "done"})]


def test_react_works_without_any_tool_and_finish_takes_what_models_give_it() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        server.script = agent(("finish", {"answer": "early"}))
        outcome = await engine.run(program(module="react"), {"question": "?"}, context(profile(server)))
        assert outcome.outputs == {"answer": "done"}
        assert "Completed." in server.requests[1].prompt
        assert outcome.usage["openai/gpt-4o-mini"]["total_tokens"] == 14

    scenario(steps)


def test_react_uses_tools_and_shows_the_model_no_file_of_the_operator_when_one_fails() -> None:
    def weather(city: str) -> str:
        """The weather of a city."""
        if city == "Atlantis":
            raise KeyError("no such city")
        return f"sunny in {city}"

    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        server.script = agent(("weather", {"city": "Rome"}), ("weather", {"city": "Atlantis"}), ("weather", {"town": 1}), ("finish", {}))
        await engine.run(program(module="react"), {"question": "?"}, context(profile(server)))
        seen = server.requests[-1].prompt
        assert "sunny in Rome" in seen
        assert "KeyError" in seen
        assert "no such city" in seen
        assert "Traceback" not in seen
        assert ".py" not in seen

    scenario(steps, tools=[weather])


def test_without_a_language_model_the_failure_says_how_to_configure_one() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        error = await failure(engine.run(program(), {"question": "?"}, context(None)))
        assert (error.category, error.code, error.retryable) == ("python", "lm_not_configured", False)
        assert "set_lm" in (error.hint or "")

    scenario(steps)


def test_temperature_is_the_jobs_for_this_job_only() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        lm = profile(server, temperature=0.3, max_tokens=99)
        for asked in (None, 1.25, 0.0, None):
            await engine.run(program(), {"question": "?"}, context(lm, temperature=asked))
        assert [r.body.get("temperature") for r in server.requests] == [0.3, 1.25, 0.0, 0.3]
        assert {r.body["max_completion_tokens"] for r in server.requests} == {99}
        assert server.connections == 1

    scenario(steps)


def test_each_tenant_calls_with_its_own_key_and_its_own_model() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        def model(request: Request) -> Reply:
            return Reply({"answer": f"{request.headers['authorization']} {request.body['model']}"})

        server.script = model
        lms = [profile(server, name=f"t{i}", api_key=f"sk-tenant-{i}", model=f"gpt-4o-{i}") for i in range(5)]
        jobs = [engine.run(program(), {"question": "?"}, context(lms[i % 5])) for i in range(40)]
        for i, outcome in enumerate(await asyncio.gather(*jobs)):
            assert outcome.outputs == {"answer": f"Bearer sk-tenant-{i % 5} gpt-4o-{i % 5}"}
            assert list(outcome.usage) == [f"openai/gpt-4o-{i % 5}"]

    scenario(steps)


def test_64_calls_are_in_flight_at_once_and_none_is_mixed_up() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        go = asyncio.Event()
        server.script = lambda request: Reply(hold=go)
        jobs = [asyncio.ensure_future(engine.run(program(), {"question": f"q{i}"}, context(profile(server)))) for i in range(64)]
        await server.wait_for_requests(64)
        go.set()
        for i, outcome in enumerate(await asyncio.gather(*jobs)):
            assert outcome.outputs == {"answer": f"echo of q{i}"}

    scenario(steps)


def test_a_cancelled_call_closes_its_connection_and_the_next_one_works() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        server.script = [Reply(hold=asyncio.Event())]
        job = asyncio.ensure_future(engine.run(program(), {"question": "?"}, context(profile(server))))
        await server.wait_for_requests(1)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        await server.closed_early.wait()
        outcome = await engine.run(program(), {"question": "again"}, context(profile(server)))
        assert outcome.outputs == {"answer": "echo of again"}

    scenario(steps)


def test_a_call_ends_when_its_budget_does() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        server.script = [Reply(hold=asyncio.Event())]
        error = await failure(engine.run(program(), {"question": "?"}, context(profile(server), budget_ms=60)))
        assert (error.category, error.code, error.retryable) == ("timeout", "operation_timeout", True)
        await server.closed_early.wait()

    scenario(steps)


def test_profiles_over_the_limit_are_closed_once_no_call_uses_them() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        engine._profiles._limit = 2
        go = asyncio.Event()
        server.script = [Reply(hold=go)]
        slow = asyncio.ensure_future(engine.run(program(), {"question": "slow"}, context(profile(server, name="slow"))))
        await server.wait_for_requests(1)
        for i in range(6):
            await engine.run(program(), {"question": "?"}, context(profile(server, name=str(i))))
        assert len(engine._profiles._held) == 2
        go.set()
        assert (await slow).outputs == {"answer": "echo of slow"}
        await engine.run(program(), {"question": "?"}, context(profile(server, name="5")))
        assert engine._profiles._dropped == []
        while server.open > 2:
            await asyncio.sleep(0)

    scenario(steps)


def test_nothing_of_a_call_stays_in_the_process(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        before = dict(dspy.settings.config)
        server.script = [Reply({"answer": "secret answer"}), Reply(text="not at all"), Reply(text="secret words")]
        turns = [{"inputs": {"question": "secret turn"}, "outputs": {"answer": "x"}}]
        await engine.run(program(), {"question": "secret question"}, context(profile(server), history=turns))
        await failure(engine.run(program("q -> a: int"), {"q": "secret"}, context(profile(server))))
        from dspy.clients.base_lm import GLOBAL_HISTORY

        assert list(GLOBAL_HISTORY) == []
        for held in engine._profiles._held.values():
            assert held.lm.history == []
            assert KEY not in repr(held.lm.dump_state() if held.engines is None else held.lm.kwargs)
        for built in engine._programs._held.values():
            assert built.module.history == []
            assert built.predictor.demos == []
        assert dict(dspy.settings.config) == before
        assert dspy.settings.lm is None
        assert "litellm" not in sys.modules
        assert "openai" not in sys.modules

    scenario(steps)
    said = capfd.readouterr()
    assert "secret" not in said.out + said.err


def test_the_same_program_is_built_once() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        for i in range(3):
            await engine.run(program({"inputs": [{"name": "q"}], "outputs": [{"name": "a"}]}), {"q": str(i)}, context(profile(server)))
        assert len(engine._programs._held) == 1

    scenario(steps)


def test_an_answer_that_only_fits_as_json_is_asked_for_again_as_json() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        server.script = [Reply(text="Paris, I think."), Reply(text=json.dumps({"answer": "Paris"}))]
        outcome = await engine.run(program(), {"question": "?"}, context(profile(server)))
        assert outcome.outputs == {"answer": "Paris"}
        assert outcome.usage["openai/gpt-4o-mini"]["total_tokens"] == 14

    scenario(steps)


def test_supports_decides_whether_a_schema_is_sent() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        for able in (False, True):
            server.script = [Reply(text="?"), Reply(text=json.dumps({"a": 1}))]
            lm = profile(server, supports={"response_schema": able, "function_calling": False})
            assert (await engine.run(program("q -> a: int"), {"q": "?"}, context(lm))).outputs == {"a": 1}
        kinds = [r.body.get("response_format", {}).get("type") for r in server.requests]
        assert kinds == [None, None, None, "json_schema"]

    scenario(steps)
