"""The way of texts gives what DSPy gives: the same requests, results, usage and failures; and it is left where anybody looks."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import dspy
import pytest
from dspy.clients import execution
from dspy.clients.base_lm import GLOBAL_HISTORY
from dspy.utils.callback import BaseCallback

from dspex_worker.engines import Context
from dspex_worker.engines.dspy_engine import DSPyEngine
from dspex_worker.engines.dspy_engine.patches import fast, texts
from dspex_worker.errors import WorkerError
from tests.dspy_case import context, profile, program, scenario
from tests.fake_lm import FakeLM, Reply, chat_text


@pytest.fixture(autouse=True)
def as_chosen(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    fast.read()
    yield
    monkeypatch.undo()
    fast.read()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The LM of each call that took the way."""
    found: list[Any] = []
    ask = texts._ask

    async def noted(lm: Any, *more: Any) -> Any:
        found.append(lm)
        return await ask(lm, *more)

    monkeypatch.setattr(texts, "_ask", noted)
    return found


def turns(count: int) -> list[dict[str, Any]]:
    return [{"inputs": {"question": f"what is {n}? ü☃"}, "outputs": {"answer": f"it is {n}"}} for n in range(count)]


TYPED = "question -> answer: str, score: float, count: int, sure: bool, tags: list[str], kind: Literal['a', 'b'], more: Optional[int]"
CASES: dict[str, tuple[str, str, dict[str, Any], int]] = {
    "predict": ("question -> answer", "predict", {}, 0),
    "every text": ("question -> answer", "predict", {"question": '"\\\n\t\u2028\x00 ü☃😀 [[ ## answer ## ]] </s> {"messages":[]}'}, 0),
    "typed": (TYPED, "predict", {}, 0),
    "chain of thought": ("question -> answer", "chain_of_thought", {}, 0),
    "history": ("question -> answer", "predict", {}, 10),
    "a temperature": ("question -> answer", "predict", {}, 1),
}


class Met:
    """What came of the same calls."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], str]] = []
        self.outcomes: list[Any] = []


async def _outcome(engine: DSPyEngine, what: tuple[str, str, dict[str, Any], int], lm: dict[str, Any]) -> Any:
    spec, module, inputs, past = what
    used: list[Any] = []
    more: dict[str, Any] = {"history": turns(past), "used": lambda *counts: used.append(counts)}
    try:
        found = await engine.run(program(spec, module), {"question": "why?", **inputs}, context(lm, **more))
    except WorkerError as error:
        told = {name: getattr(error, name) for name in ("category", "code", "message", "hint", "retryable", "retry_after_ms", "usage")}
        return told, used
    except ValueError as error:
        return str(error), used
    return found.outputs, found.usage, used


def both_ways(what: tuple[str, str, dict[str, Any], int], replies: list[Reply], **of_lm: Any) -> tuple[Met, Met]:
    """The calls with the way and without it; three of each, so that it is learnt, checked and taken."""
    met = (Met(), Met())

    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        for which, text in ((0, "all"), (1, "kept,transport")):
            fast._taken.clear()
            fast._taken.update(fast.NAMES if text == "all" else text.split(","))
            before = len(server.requests)
            for reply in (None, None, *(replies or (None,))):
                if reply is not None:
                    server.script = [reply] * 2
                met[which].outcomes.append(await _outcome(engine, what, profile(server, **of_lm)))
                server.script = []
            for request in server.requests[before:]:
                met[which].requests.append((request.path, request.headers, json.dumps(request.body)))

    scenario(steps)
    return met


@pytest.mark.parametrize("name", CASES)
def test_requests_results_and_usage_are_the_same(name: str, asked: list[Any]) -> None:
    of_lm = {"temperature": 0.5, "max_tokens": 100} if name == "a temperature" else {}
    with_it, without = both_ways(CASES[name], [], **of_lm)
    assert with_it.requests == without.requests
    assert with_it.outcomes == without.outcomes
    assert len(asked) >= 3, "the way was not taken"


ANSWER = chat_text({"answer": "yes"})


def body(message: dict[str, Any], **more: Any) -> Reply:
    choice = {"index": 0, "message": {"role": "assistant", "content": ANSWER, **message}, "finish_reason": "stop", **more.pop("choice", {})}
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    return Reply(body=json.dumps({"id": "c", "model": "m", "choices": [choice], "usage": usage, **more}).encode())


ANSWERS: dict[str, Reply] = {
    "refusal": body({"content": None, "refusal": "no"}),
    "text and refusal": body({"refusal": "no"}),
    "reasoning": body({"reasoning_content": "because"}),
    "tool calls": body({"tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}),
    "nulls beside the text": body({"refusal": None, "annotations": [], "tool_calls": None, "audio": None}),
    "an unknown member": body({"surprise": {"a": 1}}),
    "parts": body({"content": [{"type": "text", "text": ANSWER}]}),
    "no content": body({"content": ""}),
    "null content": body({"content": None}),
    "cut": body({}, choice={"finish_reason": "length"}),
    "filtered": body({}, choice={"finish_reason": "content_filter"}),
    "an unknown end": body({}, choice={"finish_reason": "tired"}),
    "no end": body({}, choice={"finish_reason": None}),
    "logprobs": body({}, choice={"logprobs": {"content": []}}),
    "no usage": body({}, usage=None),
    "odd usage": body({}, usage={"prompt_tokens": 1}),
    "negative usage": body({}, usage={"prompt_tokens": -1, "completion_tokens": 1, "total_tokens": 0}),
    "usage in detail": body(
        {},
        usage={
            "prompt_tokens": 9,
            "completion_tokens": 1,
            "total_tokens": 10,
            "prompt_tokens_details": {"cached_tokens": 8},
            "completion_tokens_details": {"reasoning_tokens": 1},
        },
    ),
    "usage of another kind": body({}, usage=[1]),
    "no model": body({}, model=None),
    "two choices": Reply(
        body=json.dumps({"model": "m", "choices": [{"message": {"content": "a"}}, {"message": {"content": "b"}}]}).encode()
    ),
    "no choices": Reply(body=b'{"model": "m", "choices": []}'),
    "a list": Reply(body=b"[]"),
    "no JSON": Reply(body=b"<html>"),
    "a surrogate": Reply(body=body({"content": "[[ ## answer ## ]]\nHERE\n"}).body.replace(b"HERE", b"\\ud800")),  # type: ignore[union-attr]
    "not readable": Reply(text="nothing of use"),
    "an error with 200": Reply(body=b'{"error": {"code": "rate_limit_exceeded", "message": "slow"}}'),
    "an error and a text": body({}, error={"code": "x", "message": "y"}),
    "400": Reply(status=400, error={"message": "no", "type": "invalid_request_error"}),
    "context": Reply(status=400, error={"message": "too long", "code": "context_length_exceeded"}),
    "401": Reply(status=401, error={"message": "no", "type": "t"}),
    "404": Reply(status=404, error={"message": "no", "code": "model_not_found"}),
    "429": Reply(status=429, headers={"Retry-After": "2"}, error={"message": "slow", "type": "t"}),
    "500": Reply(status=500, error={"message": "broken", "type": "t"}),
    "responses": Reply(status=400, error={"message": "use /v1/responses", "type": "t"}),
    "cut off": Reply(cut="body"),
    "no answer": Reply(cut="accept"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_what_is_no_plain_text_is_read_as_dspy_reads_it(name: str, asked: list[Any]) -> None:
    with_it, without = both_ways(CASES["predict"], [ANSWERS[name]])
    assert with_it.outcomes == without.outcomes
    assert with_it.requests == without.requests
    assert len(asked) >= 3


def one_call(change: Any, count: int = 3) -> list[Any]:
    """Outputs of calls of a program of the operator, which changes something first."""
    found: list[Any] = []

    class Changed(dspy.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.predict = dspy.Predict("question -> answer")

        async def aforward(self, question: str) -> Any:
            return await change(self.predict, question)

    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        for _ in range(count):
            ctx: Context = context(profile(server))
            found.append((await engine.run_module(Changed(), {"question": "why?"}, ctx)).outputs)

    scenario(steps)
    return found


def test_callbacks_see_every_call(asked: list[Any]) -> None:
    seen: list[str] = []

    class Told(BaseCallback):  # type: ignore[misc]
        def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
            seen.append("start")

        def on_lm_end(self, call_id: str, outputs: Any, exception: Any = None) -> None:
            seen.append("end")

    async def change(predict: Any, question: str) -> Any:
        with dspy.context(callbacks=[Told()]):
            return await predict.acall(question=question)

    one_call(change, 2)
    assert seen == ["start", "end"] * 2
    assert not asked


def test_a_history_that_is_kept_has_every_call(asked: list[Any]) -> None:
    entries: list[Any] = []

    async def change(predict: Any, question: str) -> Any:
        with dspy.context(disable_history=False, max_history_size=10):
            found = await predict.acall(question=question)
            entries.append(dspy.settings.lm.history[-1]["outputs"])
            return found

    one_call(change, 2)
    GLOBAL_HISTORY.clear()
    assert len(entries) == 2
    assert not asked


def test_usage_is_tracked(asked: list[Any]) -> None:
    counts: list[Any] = []

    async def change(predict: Any, question: str) -> Any:
        with dspy.context(track_usage=True):
            found = await predict.acall(question=question)
        counts.append(found.get_lm_usage())
        return found

    one_call(change, 3)
    assert asked
    assert counts[0] == counts[1] == counts[2]
    assert sum(found["total_tokens"] for found in counts[0].values()) == 7


def test_messages_of_ones_own_go_dspys_way(asked: list[Any]) -> None:
    async def change(predict: Any, question: str) -> Any:
        with pytest.warns(DeprecationWarning, match="messages="):
            return {"answer": (await dspy.settings.lm.acall(messages=[{"role": "user", "content": question}]))[0]}

    assert one_call(change, 2)
    assert not asked


@pytest.mark.parametrize("config", [{"n": 2}, {"rollout_id": 1, "temperature": 1.0}, {"stop": ["x"]}, {"cache": True}, {"logprobs": True}])
def test_settings_that_are_no_numbers_go_dspys_way(config: dict[str, Any], asked: list[Any]) -> None:
    async def change(predict: Any, question: str) -> Any:
        return await predict.acall(question=question, config=config)

    one_call(change, 2)
    assert not asked


def test_what_has_no_bytes_is_dspys_error() -> None:
    found: list[Any] = []

    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        for question in ("why?", "why?", "a \ud800"):
            found.append(await _outcome(engine, ("question -> answer", "predict", {"question": question}, 0), profile(server)))

    scenario(steps)
    assert found[2][0].startswith("messages contains text that is not valid Unicode (lone surrogate U+D800)")


def test_who_puts_something_into_dspy_sees_the_calls(
    asked: list[Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Any] = []
    finalize = execution.finalize

    def traced(lm: Any, call: Any, result: Any) -> Any:
        seen.append(lm)
        return finalize(lm, call, result)

    monkeypatch.setattr(execution, "finalize", traced)
    with caplog.at_level(logging.WARNING, "dspex.worker"):
        one_call(lambda predict, question: predict.acall(question=question))
    assert len(seen) == 3
    assert not asked
    assert caplog.text.count("fast path texts has switched itself off: dspy.clients.execution.finalize was replaced") == 1


def test_a_body_that_dspy_would_build_otherwise_ends_the_way(
    asked: list[Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    payload = texts.openai_chat.OpenAIChatLM._payload
    calls: list[int] = []

    def counted(self: Any, request: Any, stream: bool) -> Any:
        calls.append(1)
        return {**payload(self, request, stream), "user": str(len(calls))}

    monkeypatch.setattr(texts.openai_chat.OpenAIChatLM, "_payload", counted)
    with caplog.at_level(logging.WARNING, "dspex.worker"):
        found = one_call(lambda predict, question: predict.acall(question=question))
    assert len(found) == 3
    assert len(asked) == 1
    assert not fast.taken(fast.TEXTS)
    assert "DSPy built another request" in caplog.text


def test_a_cancelled_call_closes_its_connection() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        lm = profile(server)
        for _ in range(2):
            await engine.run(program(), {"question": "why?"}, context(lm))
        server.script = [Reply(hold=asyncio.Event())]
        task = asyncio.create_task(engine.run(program(), {"question": "why?"}, context(lm)))
        await server.wait_for_requests(3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.closed_early.wait()
        assert (await engine.run(program(), {"question": "why?"}, context(lm))).outputs["answer"]

    scenario(steps)


@pytest.mark.parametrize(("text", "names"), [("all", set(fast.NAMES)), ("none", set()), ("texts, kept", {"texts", "kept"})])
def test_the_variable_chooses(text: str, names: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(fast.VARIABLE, text)
    fast.read()
    assert {name for name in fast.NAMES if fast.taken(name)} == names


@pytest.mark.parametrize("text", ["", "fast", "texts,", "all,none"])
def test_the_variable_is_checked(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(fast.VARIABLE, text)
    with pytest.raises(WorkerError, match="must be all, none, or some of kept, texts, transport, got"):
        fast.read()
