"""Threads, loops and tasks in every direction."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dspy

from tests.differential.case import case

POOL = ThreadPoolExecutor(2)


class QA(dspy.Module):
    """A predictor."""

    def __init__(self) -> None:
        super().__init__()
        self.qa = dspy.Predict("question -> answer")


@case("parallel", concurrent=True)
class InParallel(QA):
    """dspy.Parallel."""

    def forward(self, question: str) -> Any:
        pairs = [(self.qa, {"question": f"{question} {n}"}) for n in range(5)]
        return {"answers": [found.answer for found in dspy.Parallel(num_threads=3, disable_progress_bar=True)(pairs)]}


@case("parallel_of_one")
class InParallelOfOne(QA):
    """One thread is none."""

    def forward(self, question: str) -> Any:
        pairs = [(self.qa, {"question": f"{question} {n}"}) for n in range(3)]
        return {"answers": [found.answer for found in dspy.Parallel(num_threads=1, disable_progress_bar=True)(pairs)]}


@case("batch", concurrent=True)
class Batch(QA):
    """Module.batch."""

    def forward(self, question: str) -> Any:
        examples = [dspy.Example(question=f"{question} {n}").with_inputs("question") for n in range(4)]
        return {"answers": [found.answer for found in self.qa.batch(examples, num_threads=2, disable_progress_bar=True)]}


@case("parallel_failures", concurrent=True)
class Failures(QA):
    """Failed examples of dspy.Parallel."""

    def forward(self, question: str) -> Any:
        pairs = [(self.qa, {"question": text}) for text in ("fine", "please fail with 401")]
        found, failed, errors = dspy.Parallel(num_threads=2, return_failed_examples=True, disable_progress_bar=True)(pairs)
        return {"fine": [one.answer for one in found if one], "failed": failed, "errors": [type(error).__name__ for error in errors]}


@case("thread")
class Thread(QA):
    """A thread."""

    def forward(self, question: str) -> Any:
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(self.qa(question=question).answer))
        thread.start()
        thread.join()
        return {"found": found}


@case("pool", concurrent=True)
class Pool(QA):
    """A pool in the program."""

    def forward(self, question: str) -> Any:
        with ThreadPoolExecutor(2) as pool:
            return {"found": [one.answer for one in pool.map(lambda n: self.qa(question=f"{question} {n}"), range(3))]}


@case("old_pool", concurrent=True)
class OldPool(QA):
    """A pool that is older than the job."""

    def forward(self, question: str) -> Any:
        return {"found": [one.answer for one in POOL.map(lambda n: self.qa(question=f"{question} {n}"), range(3))]}


@case("context_in_threads")
class ContextInThreads(QA):
    """What threads see of `dspy.context` and `dspy.configure`."""

    def forward(self, question: str) -> Any:
        dspy.configure(max_errors=77)
        seen: list[int] = []
        with dspy.context(max_errors=5):
            thread = threading.Thread(target=lambda: seen.append(dspy.settings.max_errors))
            thread.start()
            thread.join()
            found = dspy.Parallel(num_threads=2, disable_progress_bar=True)([(lambda **_: dspy.settings.max_errors, {"x": 1})])
        return {"thread": seen, "parallel": found, "after": dspy.settings.max_errors}


@case("asyncio_run")
class Run(QA):
    """A loop of one's own in synchronous code."""

    def forward(self, question: str) -> Any:
        return asyncio.run(self.qa.acall(question=question))


@case("syncify")
class Syncified(QA):
    """dspy.syncify."""

    def forward(self, question: str) -> Any:
        class Later(dspy.Module):
            def __init__(self, qa: Any) -> None:
                super().__init__()
                self.qa = qa

            async def aforward(self, question: str) -> Any:
                return await self.qa.acall(question=question)

        return dspy.syncify(Later(self.qa), in_place=False)(question=question)


@case("asyncify")
class Asyncified(QA):
    """dspy.asyncify."""

    async def aforward(self, question: str) -> Any:
        return await dspy.asyncify(self.qa)(question=question)


@case("gather", concurrent=True)
class Gather(QA):
    """Tasks at once."""

    async def aforward(self, question: str) -> Any:
        found = await asyncio.gather(*(self.qa.acall(question=f"{question} {n}") for n in range(4)))
        return {"found": [one.answer for one in found]}


@case("to_thread")
class ToThread(QA):
    """Synchronous code beside the loop."""

    async def aforward(self, question: str) -> Any:
        return await asyncio.to_thread(self.qa, question=question)


@case("executor")
class Executor(QA):
    """The same by hand."""

    async def aforward(self, question: str) -> Any:
        return await asyncio.get_running_loop().run_in_executor(None, lambda: self.qa(question=question))


@case("sync_call_in_task")
class SyncInTask(QA):
    """A synchronous call on the loop: it works, and holds the loop."""

    async def aforward(self, question: str) -> Any:
        return self.qa(question=question)


@case("streamify", concurrent=True)
class Streamified(QA):
    """dspy.streamify in a program."""

    async def aforward(self, question: str) -> Any:
        listener = dspy.streaming.StreamListener(signature_field_name="answer")
        program = dspy.streamify(self.qa, stream_listeners=[listener], is_async_program=True)
        texts, last = [], None
        async for found in program(question="a question that is long enough to be streamed"):
            if isinstance(found, dspy.streaming.StreamResponse):
                texts.append(found.chunk)
            elif isinstance(found, dspy.Prediction):
                last = found
        return {"streamed": "".join(texts), "answer": last.answer if last else None}
