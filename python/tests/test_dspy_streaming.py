"""Partial output of programs: what is emitted is what the result holds, in order, and nothing of the form around it."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import dspy
import pytest

from dspex_worker.engines.dspy_engine import DSPyEngine
from dspex_worker.engines.dspy_engine.streaming import Splitter
from tests.dspy_case import context, failure, profile, program, scenario
from tests.fake_lm import FakeLM, Reply

LONG = "The quick brown fox [not a mark] jumps over [[ two ]] lazy dogs.\n\nA second paragraph, *with* marks: ## heading."


def joined(chunks: list[tuple[str | None, str]]) -> dict[str | None, str]:
    found: dict[str | None, str] = {}
    for name, chunk in chunks:
        found[name] = found.get(name, "") + chunk
    return found


PIECES = [
    "[[ ## a ## ]]",
    "[[ ## b ## ]]",
    "[[ ## other ## ]]",
    "[[ ## ",
    " ## ]]",
    "[[",
    "]",
    "#",
    "word",
    "two words",
    "é",
    "\n",
    "\n",
    "\r\n",
    "\r",
    " ",
    "  ",
    "\t",
    "\u2028",
    "\x0c",
    "[[ ## a ##",
    "[[ ## a  ## ]]",
    "[[ ## a ## ]] tail ",
]


def test_what_the_splitter_emits_is_what_the_chat_adapter_reads() -> None:
    random = Random(7)
    signature = dspy.Signature("q -> a, b")
    adapter = dspy.ChatAdapter()
    seen = 0
    for _ in range(4000):
        text = "".join(random.choices(PIECES, [6, 6] + [1] * 4 + [2] * (len(PIECES) - 6), k=random.randrange(2, 30)))
        try:
            expected = adapter.parse(signature, text)
        except dspy.utils.exceptions.AdapterParseError:
            continue
        seen += 1
        got: dict[str, str] = {"a": "", "b": ""}

        def emit(name: str, chunk: str, got: dict[str, str] = got) -> None:
            assert chunk
            got[name] += chunk

        splitter = Splitter(["a", "b"], emit)
        at = 0
        while at < len(text):
            step = random.randrange(1, 9)
            splitter.feed(text[at : at + step])
            at += step
        splitter.finish()
        assert got == expected, repr(text)
    assert seen > 500


@pytest.mark.parametrize("step", [1, 3, 5, 8, 13, 40])
@pytest.mark.parametrize("module", ["predict", "chain_of_thought"])
def test_the_chunks_of_a_field_add_up_to_its_value(module: str, step: int) -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        outputs = {"title": "A title", "score": 2, "text": LONG}
        if module == "chain_of_thought":
            outputs = {"reasoning": "Because of this and that.", **outputs}
        server.script = [Reply(outputs, step=step)]
        chunks: list[tuple[str | None, str]] = []
        ctx = context(profile(server), emit=lambda name, chunk: chunks.append((name, chunk)))
        outcome = await engine.run(program("q -> title, score: int, text", module), {"q": "?"}, ctx)
        assert outcome.outputs == outputs
        assert outcome.usage["openai/gpt-4o-mini"]["total_tokens"] == 7
        for name, text in joined(chunks).items():
            assert text == outputs[str(name)]
        assert all(chunk for _, chunk in chunks)
        if step <= 8:
            assert set(joined(chunks)) == {name for name, value in outputs.items() if isinstance(value, str)}

    scenario(steps)


def test_chunks_go_out_while_the_model_still_speaks() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        seen: list[str] = []
        first = asyncio.Event()

        def emit(name: str | None, chunk: str) -> None:
            seen.append(chunk)
            first.set()

        server.script = [Reply({"answer": "word " * 200}, pause=asyncio.Event())]
        gate = server.script[0].pause
        job = asyncio.ensure_future(engine.run(program(), {"question": "?"}, context(profile(server), emit=emit)))
        await first.wait()
        assert not job.done()
        assert gate is not None
        gate.set()
        await job
        assert "".join(seen) == ("word " * 200).strip()

    scenario(steps)


def test_a_cancelled_stream_closes_its_connection() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        first = asyncio.Event()
        server.script = [Reply({"answer": "word " * 200}, pause=asyncio.Event())]
        job = asyncio.ensure_future(engine.run(program(), {"question": "?"}, context(profile(server), emit=lambda *_: first.set())))
        await first.wait()
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        await server.closed_early.wait()

    scenario(steps)


def test_a_stream_that_breaks_says_that_output_went_out() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        server.script = [Reply({"answer": "word " * 50}, cut="stream")]
        chunks: list[str] = []
        ctx = context(profile(server), emit=lambda name, chunk: chunks.append(chunk))
        error = await failure(engine.run(program(), {"question": "?"}, ctx))
        assert chunks
        assert error.retryable
        assert "partial output" in (error.hint or "")
        assert "word" not in error.message

    scenario(steps)


def test_a_stream_without_an_end_is_no_success() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        server.script = [Reply({"answer": "word"}, finish=None)]
        error = await failure(engine.run(program(), {"question": "?"}, context(profile(server), emit=lambda *_: None)))
        assert (error.category, error.code, error.retryable) == ("python", "lm_stream_broken", True)

    scenario(steps)


def test_32_streams_at_once_keep_their_chunks_apart() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        async def one(i: int) -> None:
            chunks: list[str] = []
            ctx = context(profile(server), emit=lambda name, chunk: chunks.append(chunk))
            question = f"number {i}, " * 20
            outcome = await engine.run(program(), {"question": question}, ctx)
            assert "".join(chunks) == outcome.outputs["answer"] == f"echo of {question}".strip()

        await asyncio.gather(*(one(i) for i in range(32)))

    scenario(steps)


def test_a_module_of_the_operator_streams_when_it_is_asynchronous() -> None:
    class Two(dspy.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.first = dspy.Predict("question -> plan")
            self.second = dspy.Predict("plan -> answer")

        async def aforward(self, question: str) -> Any:
            plan = await self.first.acall(question=question)
            return await self.second.acall(plan=plan.plan)

    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        chunks: list[tuple[str | None, str]] = []
        ctx = context(profile(server), emit=lambda name, chunk: chunks.append((name, chunk)))
        outcome = await engine.run_module(Two(), {"question": "a long question"}, ctx)
        assert outcome.outputs == {"answer": "echo of echo of a long question"}
        assert joined(chunks) == {"plan": "echo of a long question", "answer": "echo of echo of a long question"}

    scenario(steps)
