"""Each way in which a language model can fail, and the error that a caller gets. Every row goes over a real connection."""

from __future__ import annotations

import asyncio
import email.utils
import json
import sys
import time
from typing import Any

import dspy
import pytest

from dspex_worker.engines.dspy_engine import DSPyEngine
from dspex_worker.errors import WorkerError
from tests.dspy_case import KEY, context, failure, profile, program, scenario
from tests.fake_lm import FakeLM, Reply

SECRET = "the patient is called Zebediah Quux and lives in Nowhere Lane"


def error_body(message: str = "no", code: str | None = None) -> dict[str, Any]:
    return {"message": message, "type": "t", "code": code}


async def fail_with(server: FakeLM, engine: DSPyEngine, reply: Reply, **more: Any) -> WorkerError:
    server.script = lambda request: reply
    return await failure(engine.run(program(), {"question": SECRET}, context(profile(server, **more))))


ROWS = [
    (Reply(status=429), "resource_error", "lm_rate_limit", True),
    (Reply(status=402), "python", "lm_billing", False),
    (Reply(status=429, error=error_body(code="insufficient_quota")), "python", "lm_billing", False),
    (Reply(status=500), "resource_error", "lm_server_error", True),
    (Reply(status=502), "resource_error", "lm_server_error", True),
    (Reply(status=503), "resource_error", "lm_server_error", True),
    (Reply(status=529), "resource_error", "lm_server_error", True),
    (Reply(status=401), "python", "lm_auth", False),
    (Reply(status=403), "python", "lm_auth", False),
    (Reply(status=408), "timeout", "lm_timeout", True),
    (Reply(status=504), "timeout", "lm_timeout", True),
    (Reply(status=400), "python", "lm_invalid_request", False),
    (Reply(status=409), "python", "lm_invalid_request", False),
    (Reply(status=413), "python", "lm_invalid_request", False),
    (Reply(status=422), "python", "lm_invalid_request", False),
    (Reply(status=400, error=error_body(code="context_length_exceeded")), "python", "lm_context_window", False),
    (Reply(status=404), "python", "lm_invalid_request", False),
    (Reply(status=404, error=error_body(code="model_not_found")), "python", "lm_unsupported_model", False),
    (Reply(status=425), "python", "lm_bad_answer", False),
    (Reply(body=b"<html>gateway</html>"), "python", "lm_bad_answer", False),
    (Reply(body=b'{"id": "c", "model": "m", "choices": []}'), "python", "lm_answer_unreadable", True),
    (Reply(text="nothing of the form"), "python", "lm_answer_unreadable", True),
    (Reply(text=""), "python", "lm_answer_unreadable", True),
    (Reply(cut="accept"), "connection", "lm_connection", True),
    (Reply(cut="head"), "connection", "lm_connection", True),
    (Reply(cut="body"), "connection", "lm_connection", True),
]


@pytest.mark.parametrize(("reply", "category", "code", "retryable"), ROWS, ids=lambda value: str(value) if isinstance(value, str) else "")
def test_each_failure_has_its_category_and_code(reply: Reply, category: str, code: str, retryable: bool) -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        error = await fail_with(server, engine, reply)
        assert (error.category, error.code, error.retryable) == (category, code, retryable)
        assert error.python_type
        assert "openai" in error.message or code == "lm_answer_unreadable"
        # DSPy's chat form falls back to JSON once; nothing else is tried twice.
        assert len(server.requests) == (2 if code == "lm_answer_unreadable" else 1)

    scenario(steps)


def test_a_server_that_is_not_there_is_a_connection_failure() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        error = await fail_with(server, engine, Reply(), api_base="http://127.0.0.1:1/v1")
        assert (error.category, error.code, error.retryable) == ("connection", "lm_connection", True)
        assert "127.0.0.1" not in error.message

    scenario(steps)


def test_a_server_that_does_not_answer_within_the_profiles_time_is_a_timeout() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        error = await fail_with(server, engine, Reply(hold=asyncio.Event()), timeout_ms=50)
        assert (error.category, error.code, error.retryable) == ("timeout", "lm_timeout", True)
        await server.closed_early.wait()

    scenario(steps)


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("2", 2000, 2000),
        ("0.25", 250, 250),
        ("999999", 3_600_000, 3_600_000),
        (email.utils.formatdate(time.time() + 172_800, usegmt=True), 3_600_000, 3_600_000),
        ("-5", None, None),
        ("soon", None, None),
        ("nan", None, None),
        (None, None, None),
    ],
)
def test_the_wait_that_a_provider_asks_for_is_told_and_capped(header: str | None, least: int | None, most: int | None) -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        error = await fail_with(server, engine, Reply(status=429, headers={"Retry-After": header} if header else {}))
        if least is None or most is None:
            assert error.retry_after_ms is None
        else:
            assert error.retry_after_ms is not None
            assert least <= error.retry_after_ms <= most
        refused = await fail_with(server, engine, Reply(status=401, headers={"Retry-After": "2"}))
        assert refused.retry_after_ms is None

    scenario(steps)


@pytest.mark.parametrize(
    "message",
    [
        f"Incorrect API key provided: {KEY}.",
        "Incorrect API key provided: sk-proj-****************************abcd.",
        "bad header: Bearer abcdef0123456789",
        f"cannot parse: {SECRET}",
        f"cannot parse: ...{SECRET[10:40]}...",
        "GET /models?key=AIzaSyA0123456789abcdef&x=1 failed",
    ],
)
@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_no_failure_repeats_a_key_or_an_input(status: int, message: str) -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        error = await fail_with(server, engine, Reply(status=status, error=error_body(message)))
        told = repr((error.message, error.detail()))
        for secret in (KEY, "abcd", "abcdef0123456789", "Zebediah", "called", "AIzaSy"):
            assert secret not in told

    scenario(steps)


def test_what_a_provider_says_is_kept_when_it_is_harmless() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        error = await fail_with(server, engine, Reply(status=400, error=error_body("max_tokens is too large: 999999")))
        assert error.message == "the provider openai refused the request (HTTP 400): max_tokens is too large: 999999"
        error = await fail_with(server, engine, Reply(status=401, error=error_body("key expired")))
        assert error.message == "the provider openai refused the key (HTTP 401): key expired"

    scenario(steps)


def test_no_failure_repeats_a_turn_of_the_history() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        server.script = [Reply(status=400, error=error_body(f"cannot parse: {SECRET}"))]
        turns = [{"inputs": {"question": SECRET}, "outputs": {"answer": "x"}}]
        error = await failure(engine.run(program(), {"question": "?"}, context(profile(server), history=turns)))
        assert "Zebediah" not in error.message

    scenario(steps)


def test_dspys_own_log_lines_repeat_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        server.script = lambda request: Reply(status=400, error=error_body(f"too long: {SECRET}", "context_length_exceeded"))
        error = await failure(engine.run(program(module="react"), {"question": SECRET}, context(profile(server))))
        assert error.code == "lm_context_window"
        assert "Zebediah" not in error.message

    scenario(steps)
    said = capfd.readouterr()
    assert "Zebediah" not in said.out + said.err


@pytest.mark.parametrize("text", [f"[[ ## answer ## ]]\n{SECRET}", SECRET, f"[[ ## answer ## ]]\n1\n[[ ## score ## ]]\n{SECRET}"])
def test_an_unreadable_answer_is_not_repeated_but_its_fields_are_named(text: str) -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        server.script = lambda request: Reply(text=text)
        error = await failure(engine.run(program("q -> answer, score: float"), {"q": "?"}, context(profile(server))))
        assert error.code == "lm_answer_unreadable"
        assert "Zebediah" not in repr((error.message, error.detail()))
        assert "score" in error.message
        assert error.usage == {"openai/gpt-4o-mini": {"prompt_tokens": 6, "completion_tokens": 8, "total_tokens": 14}}

    scenario(steps)


def test_at_temperature_0_the_same_unreadable_answer_is_not_asked_for_again() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        error = await fail_with(server, engine, Reply(text="no form"), temperature=0.0)
        assert (error.code, error.retryable) == ("lm_answer_unreadable", False)

    scenario(steps)


@pytest.mark.parametrize(("finish", "word"), [("length", "max_tokens"), ("content_filter", "content filter")])
def test_an_answer_that_was_cut_says_why(finish: str, word: str) -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        error = await fail_with(server, engine, Reply(text="[[ ## ans", finish=finish))
        assert error.code == "lm_answer_unreadable"
        assert word in (error.hint or "")

    scenario(steps)


def test_an_output_that_the_wire_cannot_carry_is_refused() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        for spec, said in (("q -> n: int", str(2**70)), ("q -> n: any", '{"a": 1, "A": 2}'), ("q -> n: float", "1e999")):
            server.script = lambda request, said=said: Reply(text=f"[[ ## n ## ]]\n{said}\n\n[[ ## completed ## ]]")
            error = await failure(engine.run(program(spec), {"q": "?"}, context(profile(server))))
            assert (error.category, error.code) == ("python", "lm_bad_output"), spec
            assert error.usage

    scenario(steps)


@pytest.mark.parametrize(
    ("change", "code", "word"),
    [
        ({"provider": "skynet"}, "lm_provider_unknown", "openai"),
        ({"provider": None}, "lm_provider_unknown", "openai"),
        ({"api_key": None}, "lm_not_configured", "api_key"),
        ({"model": ""}, "lm_configuration", "model"),
        ({"provider": "openai_compatible", "api_base": None}, "lm_not_configured", "api_base"),
        ({"model": "gpt-5", "temperature": 0.3}, "lm_configuration", "temperature"),
        ({"engine": "litellm"}, "lm_engine_missing", "litellm.txt"),
    ],
)
def test_a_profile_that_cannot_work_says_why(change: dict[str, Any], code: str, word: str) -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        error = await failure(engine.run(program(), {"question": "?"}, context(profile(server, **change))))
        assert (error.category, error.code, error.retryable) == ("python", code, False)
        assert word in (error.hint or "")
        assert "'test'" in error.message
        assert KEY not in repr(error.detail())
        assert server.requests == []

    scenario(steps)


@pytest.mark.parametrize("version", ["1.82.7", "1.82.8", "1.107.0"])
def test_a_litellm_that_is_not_trusted_is_refused_before_it_is_imported(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "litellm" or None)
        monkeypatch.setattr("importlib.metadata.version", lambda name: version)
        error = await failure(engine.run(program(), {"question": "?"}, context(profile(server, engine="litellm"))))
        assert (error.category, error.code, error.retryable) == ("python", "lm_engine_refused", False)
        assert version in error.message
        assert "litellm" not in sys.modules

    scenario(steps)


@pytest.mark.parametrize(
    ("text", "finish", "said", "again"),
    [
        ("[[ ## mood ## ]]\nodd", "stop", "breaks the rule of the output mood: Input should be 'good' or 'bad'", False),
        ('{"mood": "odd", "n": 3}', "stop", "breaks the rule of the output mood: Input should be 'good' or 'bad'", False),
        ('{"mood": "good", "n": "many"}', "stop", "breaks the rule of the output n: Input should be a valid integer", False),
        ('{"n": 3}', "stop", "does not hold the output mood, only n", True),
        ("words", "stop", "does not hold the outputs mood, n: it is not in the form that JSONAdapter requires", True),
        ("[[ ## mood ## ]]\ngo", "length", "does not hold", False),
    ],
)
def test_an_unreadable_answer_says_which_output_broke_which_rule(text: str, finish: str, said: str, again: bool) -> None:
    """Only what may be whole the next time is asked for again: a wrong value and a cut answer cost no further calls."""

    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        server.script = [Reply(text=text, finish=finish) for _ in range(2)]
        spec = program("question -> mood: Literal['good', 'bad'], n: int")
        error = await failure(engine.run(spec, {"question": "?"}, context(profile(server))))
        assert error.code == "lm_answer_unreadable" and error.retryable is again
        if finish == "stop":
            assert said in error.message, error.message
        for temperature in (0.0, 1.0):
            server.script = [Reply(text=text, finish=finish) for _ in range(2)]
            error = await failure(engine.run(spec, {"question": "?"}, context(profile(server), temperature=temperature)))
            assert error.retryable is (again and temperature > 0)

    scenario(steps)


def test_what_needs_litellm_is_named_and_says_what_to_do() -> None:
    class Hosted(dspy.Module):  # type: ignore[misc]
        def __init__(self, run: Any) -> None:
            super().__init__()
            self.run = run

        def forward(self) -> Any:
            return self.run()

    def unknown_provider() -> Any:
        with dspy.context(lm=dspy.LM("nobody/model")):
            return dspy.Predict("question -> answer")(question="?")

    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        for run, named in (
            (lambda: dspy.Embedder("openai/text-embedding-3-small")(["a"]), "dspy.Embedder of a hosted model needs litellm"),
            (unknown_provider, "the language model nobody/model, which the program made itself"),
        ):
            error = await failure(engine.run_module(Hosted(run), {}, context(profile(server))))
            assert (error.category, error.code, error.retryable) == ("python", "lm_engine_missing", False)
            assert named in error.message
            assert "dspex env add litellm" in (error.hint or "")
            assert error.python_type == "ImportError"

    scenario(steps)


# What servers say of a prompt that is too long: status and body.
TOO_LONG: dict[str, tuple[int, dict[str, Any]]] = {
    "llama.cpp": (
        400,
        {
            "code": 400,
            "message": "request (914 tokens) exceeds the available context size (512 tokens), try increasing it",
            "type": "exceed_context_size_error",
        },
    ),
    "llama.cpp, 2025-09": (
        500,
        {"code": 500, "message": "the request exceeds the available context size. try increasing it", "type": "exceed_context_size_error"},
    ),
    "vllm 0.9": (
        400,
        {
            "message": "This model's maximum context length is 16384 tokens. However, you requested 122946 tokens",
            "type": "BadRequestError",
            "code": 400,
        },
    ),
    "vllm, prompts": (
        400,
        {
            "message": "The decoder prompt (length 9000) is longer than the maximum model length of 4096.",
            "type": "BadRequestError",
            "code": 400,
        },
    ),
    "ollama": (400, {"message": "the input length exceeds the context length", "type": "invalid_request_error", "code": None}),
}


@pytest.mark.parametrize("server_name", TOO_LONG)
def test_a_prompt_that_is_too_long_is_that_whatever_the_server_says(server_name: str) -> None:
    status, body = TOO_LONG[server_name]

    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        error = await fail_with(server, engine, Reply(status=status, error=body))
        assert (error.category, error.code, error.retryable) == ("python", "lm_context_window", False)
        assert error.python_type == "ContextWindowExceededError"

    scenario(steps)


def test_an_agent_whose_prompt_is_too_long_shortens_its_trajectory() -> None:
    def tool(x: str) -> str:
        """Answers."""
        return "found"

    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        asked: list[int] = []

        def script(request: Any) -> Reply:
            text = json.dumps(request.body["messages"][-1])
            asked.append(text.count("observation_"))
            if text.count("[[ ## observation_") > 1:  # two turns do not fit
                status, body = TOO_LONG["llama.cpp"]
                return Reply(status=status, error=body)
            if "next_tool_name" in text:
                return Reply(
                    text='[[ ## next_thought ## ]]\nt\n\n[[ ## next_tool_name ## ]]\ntool\n\n[[ ## next_tool_args ## ]]\n{"x": "1"}'
                )
            return Reply(text="[[ ## reasoning ## ]]\nr\n\n[[ ## answer ## ]]\na")

        server.script = script
        agent = dspy.ReAct("question -> answer", tools=[tool], max_iters=3)
        outcome = await engine.run_module(agent, {"question": "?"}, context(profile(server)))
        assert outcome.outputs["answer"] == "a"
        assert max(asked) > 0

    scenario(steps)
