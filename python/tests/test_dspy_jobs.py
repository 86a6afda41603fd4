"""No job harms another: loops of user code, its threads, tools that block, models of its own, and what goes on after a job's end."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dspy
import pytest

from dspex_worker import current_job
from dspex_worker.engines.dspy_engine import DSPyEngine
from dspex_worker.registry import Job, job_var
from tests.dspy_case import KEY, context, failure, profile, scenario
from tests.fake_lm import FakeLM, Reply


class QA(dspy.Module):  # type: ignore[misc]
    """A module with one predictor; how it is used says the function."""

    def __init__(self, use: Any) -> None:
        super().__init__()
        self.qa = dspy.Predict("question -> answer")
        self.use = use

    def forward(self, question: str) -> Any:
        return self.use(self.qa, question)


class AsyncQA(QA):
    """The same as a coroutine."""

    async def aforward(self, question: str) -> Any:
        return await self.use(self.qa, question)


def test_a_loop_of_user_code_leaves_no_connection_behind_for_the_next_job() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        lm = profile(server)
        module = QA(lambda qa, question: asyncio.run(qa.acall(question=question)))
        for _ in range(3):
            assert (await engine.run_module(module, {"question": "a"}, context(lm))).outputs == {"answer": "echo of a"}
            after = await engine.run_module(AsyncQA(lambda qa, q: qa.acall(question=q)), {"question": "b"}, context(lm))
            assert after.outputs == {"answer": "echo of b"}

    scenario(steps)


def _in_thread(qa: Any, question: str) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append((qa(question=question).answer, current_job().id)))
    thread.start()
    thread.join()
    return {"found": found[0]}


_POOL = ThreadPoolExecutor(1)  # older than every job, as a module-level pool is


@pytest.mark.parametrize(
    "use",
    [
        _in_thread,
        lambda qa, q: {"found": next(iter(_POOL.map(lambda text: (qa(question=text).answer, current_job().id), [q])))},
    ],
)
def test_threads_of_a_module_find_the_jobs_model_and_the_job(use: Any) -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        for job in ("one", "two"):
            token = job_var.set(Job(job, 1, None, "execute_program", "w", 0, 1))
            outcome = await engine.run_module(QA(use), {"question": job}, context(profile(server, model=f"gpt-{job}")))
            job_var.reset(token)
            assert outcome.outputs == {"found": [f"echo of {job}", job]}
            assert server.requests[-1].body["model"] == f"gpt-{job}"
            assert outcome.usage[f"openai/gpt-{job}"]["total_tokens"] == 7

    scenario(steps)


def test_a_thread_sees_what_the_job_configures_and_not_what_a_block_of_another_thread_does() -> None:
    """As in a script: `dspy.configure` is for all threads, `dspy.context` for its own block."""
    seen: list[Any] = []

    def use(qa: Any, question: str) -> Any:
        dspy.configure(max_errors=77)
        with dspy.context(max_errors=5):
            thread = threading.Thread(target=lambda: seen.append(dspy.settings.max_errors))
            thread.start()
            thread.join()
            return {"here": dspy.settings.max_errors}

    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        before = dspy.settings.max_errors
        assert (await engine.run_module(QA(use), {"question": "a"}, context(profile(server)))).outputs == {"here": 5}
        assert seen == [77]
        assert dspy.settings.max_errors == before  # the next job begins with the process's

    scenario(steps)


def test_a_thread_of_a_module_must_not_configure_what_the_module_did() -> None:
    def use(qa: Any, question: str) -> Any:
        dspy.configure(max_errors=3)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(dspy.configure, max_errors=4).result()

    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        with pytest.raises(RuntimeError, match="can only be changed by the thread that initially configured it"):
            await engine.run_module(QA(use), {"question": "a"}, context(profile(server)))

    scenario(steps)


def test_a_synchronous_tool_of_an_asynchronous_program_holds_nobody_else() -> None:
    inside, go_on = threading.Event(), threading.Event()

    def tool(question: str) -> str:
        inside.set()
        assert go_on.wait(30)
        return "found in a thread with " + current_job().id

    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        wrapped = dspy.Tool(tool)
        job_var.set(Job("j", 1, None, "execute_program", "w", 0, 1))
        task = asyncio.ensure_future(
            engine.run_module(AsyncQA(lambda qa, q: wrapped.acall(question=q)), {"question": "a"}, context(profile(server)))
        )
        await asyncio.to_thread(inside.wait, 30)
        other = await engine.run_module(AsyncQA(lambda qa, q: qa.acall(question=q)), {"question": "b"}, context(profile(server)))
        assert other.outputs == {"answer": "echo of b"}
        go_on.set()
        assert (await task).outputs == {"output": "found in a thread with j"}

    scenario(steps)


def test_after_its_end_no_thread_of_a_job_reaches_a_model() -> None:
    ended, refused, threads = threading.Event(), [], []

    def use(qa: Any, question: str) -> Any:
        def late() -> None:
            assert ended.wait(30)
            for lm in (None, dspy.LM("openai/own", api_base="http://127.0.0.1:9/v1", api_key=KEY, num_retries=0, cache=False)):
                try:
                    qa(question="late", **({"lm": lm} if lm else {}))
                except BaseException as error:
                    refused.append(str(error))

        threads.append(threading.Thread(target=late))
        threads[0].start()
        return {"answer": "early"}

    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        await engine.run_module(QA(use), {"question": "a"}, context(profile(server)))
        ended.set()
        await asyncio.to_thread(threads[0].join)
        assert len(refused) == 2 and all("has ended" in text for text in refused), refused
        assert not server.requests

    scenario(steps)


def test_a_failure_says_whose_model_it_was() -> None:
    def own(qa: Any, question: str) -> Any:
        with dspy.context(lm=dspy.LM("openai/mine", api_base="http://127.0.0.1:9/v1", api_key=KEY, num_retries=0, cache=False)):
            return qa(question=question)

    def keyless(qa: Any, question: str) -> Any:
        with dspy.context(lm=dspy.LM("openai/mine", num_retries=0, cache=False)):
            return qa(question=question)

    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        told: list[tuple[dict[str, Any], bool]] = []
        ctx = context(profile(server), used=lambda usage, called: told.append((usage, called)))
        error = await failure(engine.run_module(QA(own), {"question": "a"}, ctx))
        assert error.code == "lm_connection" and error.lm == {"name": "openai/mine", "of_profile": False}
        assert "openai/mine" in error.message and "the program made itself" in error.message
        error = await failure(engine.run_module(QA(keyless), {"question": "a"}, ctx))
        assert error.code == "lm_not_configured" and error.lm == {"name": "openai/mine", "of_profile": False}
        assert "dspy.LM" in str(error.hint)
        server.script = [Reply(status=500)]
        error = await failure(engine.run_module(QA(lambda qa, q: qa(question=q)), {"question": "a"}, ctx))
        assert error.code == "lm_server_error" and error.lm == {"name": "openai/gpt-4o-mini", "of_profile": True}
        assert [called for _, called in told] == [False, False, True]

    scenario(steps)


def test_every_call_is_counted_in_threads_too_and_also_of_a_job_that_fails() -> None:
    def use(qa: Any, question: str) -> Any:
        dspy.Parallel(num_threads=2, disable_progress_bar=True)([(qa, {"question": question}), (qa, {"question": "b"})])
        qa(question="c")
        if question == "fail":
            raise KeyError(question)
        return {}

    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        told: list[dict[str, Any]] = []
        ctx = context(profile(server), used=lambda usage, called: told.append(usage))
        outcome = await engine.run_module(QA(use), {"question": "a"}, ctx)
        with pytest.raises(KeyError):
            await engine.run_module(QA(use), {"question": "fail"}, ctx)
        assert outcome.usage["openai/gpt-4o-mini"]["total_tokens"] == 21
        assert [usage["openai/gpt-4o-mini"]["total_tokens"] for usage in told] == [21, 21]

    scenario(steps)


def test_the_trace_is_there_for_those_who_read_it_and_begins_anew_in_each_job() -> None:
    best = dspy.BestOfN(dspy.ChainOfThought("question -> answer"), N=2, reward_fn=lambda args, pred: 1.0, threshold=1.0)

    def use(qa: Any, question: str) -> Any:
        best(question=question)
        qa(question=question)
        return {"traced": len(dspy.settings.trace)}

    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        for _ in range(2):
            assert (await engine.run_module(QA(use), {"question": "a"}, context(profile(server)))).outputs == {"traced": 2}

    scenario(steps)
