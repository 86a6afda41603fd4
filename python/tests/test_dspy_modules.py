"""Modules and functions of the operator under the DSPy engine: threads, tasks, cancellation, and whose errors are whose."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import dspy
import pytest

from dspex_worker.engines.dspy_engine import DSPyEngine
from dspex_worker.engines.dspy_engine.executor import inline_hops
from tests.dspy_case import context, failure, profile, scenario
from tests.fake_lm import FakeLM, Reply


class Sync(dspy.Module):  # type: ignore[misc]
    """A module as most people write them."""

    def __init__(self) -> None:
        super().__init__()
        self.qa = dspy.Predict("question -> answer")
        self.threads: list[int] = []

    def forward(self, question: str) -> Any:
        self.threads.append(threading.get_ident())
        return self.qa(question=question)


class Async(dspy.Module):  # type: ignore[misc]
    """The same as a coroutine."""

    def __init__(self) -> None:
        super().__init__()
        self.qa = dspy.Predict("question -> answer, n: int")

    async def aforward(self, question: str) -> Any:
        return await self.qa.acall(question=question)


def test_a_synchronous_module_runs_in_a_thread_with_the_calls_model() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        module = Sync()
        outcome = await engine.run_module(module, {"question": "hi"}, context(profile(server, temperature=0.1), temperature=0.9))
        assert outcome.outputs == {"answer": "echo of hi"}
        assert outcome.usage["openai/gpt-4o-mini"]["total_tokens"] == 7
        assert module.threads != [threading.get_ident()]
        assert server.requests[0].body["temperature"] == 0.9

    scenario(steps)


def test_an_asynchronous_module_runs_as_a_task() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        outcome = await engine.run_module(Async(), {"question": "hi"}, context(profile(server)))
        assert outcome.outputs == {"answer": "echo of hi", "n": 7}

    scenario(steps)


class Plain:
    """No DSPy module, and not callable."""

    def forward(self, n: int) -> int:
        return 3 * n


def test_plain_objects_with_a_forward_are_modules_too() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        assert (await engine.run_module(Plain(), {"n": 2}, context(profile(server)))).outputs == {"output": 6}

    scenario(steps)


def test_plain_functions_are_modules_too() -> None:
    async def double(n: int) -> int:
        return 2 * n

    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        assert (await engine.run_module(double, {"n": 4}, context(None))).outputs == {"output": 8}
        assert (await engine.run_module(lambda n: {"half": n / 2}, {"n": 4}, context(None))).outputs == {"half": 2.0}

    scenario(steps)


def test_16_synchronous_modules_wait_for_the_model_at_the_same_time() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        go = asyncio.Event()
        server.script = lambda request: Reply(hold=go)
        jobs = [asyncio.ensure_future(engine.run_module(Sync(), {"question": f"q{i}"}, context(profile(server)))) for i in range(16)]
        await server.wait_for_requests(16)
        go.set()
        for i, outcome in enumerate(await asyncio.gather(*jobs)):
            assert outcome.outputs == {"answer": f"echo of q{i}"}

    scenario(steps)


def test_a_cancelled_thread_is_interrupted_and_waited_for() -> None:
    entered, left = threading.Event(), threading.Event()

    def spin() -> None:
        entered.set()
        try:
            while True:
                pass
        finally:
            left.set()

    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        job = asyncio.ensure_future(engine.run_module(spin, {}, context(None)))
        await asyncio.to_thread(entered.wait)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        assert left.is_set()
        error = await failure(engine.run_module(spin, {}, context(None, budget_ms=30)))
        assert error.code == "operation_timeout"

    scenario(steps)


@pytest.mark.parametrize(
    "name", ["config", "demos", "signature", "lm", "prediction", "new_signature", "max_iters", "interpreter_factory", "_trace"]
)
def test_inputs_that_would_steer_dspy_are_refused(name: str) -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        error = await failure(engine.run_module(dspy.Predict("question -> answer"), {"question": "?", name: {}}, context(profile(server))))
        assert (error.category, error.code, error.retryable) == ("python", "bad_input", False)
        assert name in error.message
        assert server.requests == []

    scenario(steps)


def test_a_module_that_names_such_an_input_itself_gets_it() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        assert (await engine.run_module(lambda config: config, {"config": {"a": 1}}, context(None))).outputs == {"a": 1}

    scenario(steps)


def test_the_users_own_error_goes_through_and_the_models_becomes_a_failure() -> None:
    def own() -> None:
        raise KeyError("mine")

    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        with pytest.raises(KeyError, match="mine"):
            await engine.run_module(own, {}, context(profile(server)))
        server.script = [Reply(status=429, headers={"Retry-After": "3"})]
        error = await failure(engine.run_module(Sync(), {"question": "?"}, context(profile(server))))
        assert (error.code, error.retry_after_ms) == ("lm_rate_limit", 3000)
        assert "test_dspy_modules.py" in (error.traceback or "")

    scenario(steps)


def test_a_users_timeout_error_is_not_taken_for_the_calls() -> None:
    def own() -> None:
        raise TimeoutError("mine")

    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        with pytest.raises(TimeoutError, match="mine"):
            await engine.run_module(own, {}, context(None))

    scenario(steps)


def test_a_module_without_a_model_says_that_none_is_configured() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        for module in (Sync(), Async()):
            error = await failure(engine.run_module(module, {"question": "?"}, context(None)))
            assert error.code == "lm_not_configured"

    scenario(steps)


def test_a_result_that_cannot_be_sent_names_the_place() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        error = await failure(engine.run_module(lambda: {"a": [object()]}, {}, context(None)))
        assert (error.category, error.code) == ("python", "encode_error")
        assert error.message.startswith("cannot send outputs.a[0]: an object of type object")

    scenario(steps)


def test_code_inside_a_job_context_finds_the_model_and_outside_there_is_none() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        with engine.job_context(context(profile(server))):
            answer = await dspy.Predict("question -> answer").acall(question="inside")
        assert answer.answer == "echo of inside"
        assert dspy.settings.lm is None
        server.script = [Reply(status=401)]

        async def refused() -> None:
            with engine.job_context(context(profile(server))):
                await dspy.Predict("question -> answer").acall(question="inside")

        assert (await failure(refused())).code == "lm_auth"

    scenario(steps)


def test_a_bad_profile_does_not_stop_a_function_that_needs_no_model() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        with engine.job_context(context(profile(server, provider="skynet"))):
            assert dspy.settings.lm is None

    scenario(steps)


def test_only_dspys_bookkeeping_runs_on_the_loops_own_thread() -> None:
    from dspy.clients.execution import finalize

    def where() -> int:
        return threading.get_ident()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        inline_hops(loop)
        here = threading.get_ident()
        assert await asyncio.to_thread(where) != here
        assert await loop.run_in_executor(None, where) != here
        hop = where
        hop.__module__ = finalize.__module__
        assert await asyncio.to_thread(hop) == here
        assert await loop.getaddrinfo("127.0.0.1", 80)

    asyncio.run(main())
