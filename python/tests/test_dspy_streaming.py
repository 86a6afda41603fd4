"""Partial output of programs: what is emitted is what the result holds, in order, and nothing of the form around it."""

from __future__ import annotations

import asyncio
import json
from random import Random
from typing import Any

import dspy
import pytest

from dspex_worker.engines.dspy_engine import DSPyEngine
from dspex_worker.engines.dspy_engine.patches.splitters import JSONSplitter, Splitter, XMLSplitter
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
        ctx = context(profile(server), emit=lambda name, chunk, call: chunks.append((name, chunk)))
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

        def emit(name: str | None, chunk: str, call: int = 0) -> None:
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
        ctx = context(profile(server), emit=lambda name, chunk, call: chunks.append(chunk))
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
            ctx = context(profile(server), emit=lambda name, chunk, call: chunks.append(chunk))
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
        ctx = context(profile(server), emit=lambda name, chunk, call: chunks.append((name, chunk)))
        outcome = await engine.run_module(Two(), {"question": "a long question"}, ctx)
        assert outcome.outputs == {"answer": "echo of echo of a long question"}
        assert joined(chunks) == {"plan": "echo of a long question", "answer": "echo of echo of a long question"}

    scenario(steps)


class OneField(dspy.Module):  # type: ignore[misc]
    """A predictor; how it is used says the function."""

    def __init__(self, use: Any) -> None:
        super().__init__()
        self.qa = dspy.Predict("question -> answer")
        self.use = use

    def forward(self, question: str) -> Any:
        return self.use(self.qa, question)


class AsyncOneField(OneField):
    """The same as a coroutine."""

    async def aforward(self, question: str) -> Any:
        return await self.use(self.qa, question)


def _by_call(chunks: list[tuple[str, str, int]]) -> dict[int, str]:
    found: dict[int, str] = {}
    for _, text, call in chunks:
        found[call] = found.get(call, "") + text
    return found


def test_a_synchronous_module_streams_from_its_thread() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        chunks: list[tuple[str, str, int]] = []
        ctx = context(profile(server), emit=lambda *chunk: chunks.append(chunk))
        outcome = await engine.run_module(OneField(lambda qa, q: qa(question=q)), {"question": "a long question"}, ctx)
        assert _by_call(chunks) == {0: "echo of a long question"} == {0: outcome.outputs["answer"]}
        assert len(chunks) > 2

    scenario(steps)


def test_two_calls_of_one_predictor_at_once_stream_apart() -> None:
    gate = asyncio.Event()

    async def both(qa: Any, question: str) -> Any:
        first = asyncio.ensure_future(qa.acall(question=f"{question} 0"))
        while not chunks:
            await asyncio.sleep(0)
        second = await qa.acall(question=f"{question} 1")
        gate.set()  # the first goes on in the middle of its answer
        return {"answers": [(await first).answer, second.answer]}

    chunks: list[tuple[str, str, int]] = []

    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        server.script = [Reply({"answer": "first " * 40}, pause=gate)]
        ctx = context(profile(server), emit=lambda *chunk: chunks.append(chunk))
        outcome = await engine.run_module(AsyncOneField(both), {"question": "word " * 40}, ctx)
        assert _by_call(chunks) == dict(enumerate(outcome.outputs["answers"]))
        assert [call for _, _, call in chunks] != sorted(call for _, _, call in chunks)  # they were at work at the same time

    scenario(steps)


def _into(got: dict[str, str]) -> Any:
    def emit(name: str, text: str) -> None:
        got[name] += text

    return emit


VALUES = [
    "plain",
    "",
    "  held  back ",
    'quo"tes \\ and {braces} [x]',
    "line\nline\n\n",
    "ä 世 😀",
    "<b>bold</b> </answer",
    "[[ ## x ## ]]",
    "tab\t",
]


@pytest.mark.parametrize("step", [1, 3, 7, 1000])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_what_the_json_splitter_emits_is_what_the_adapter_reads(step: int, ascii_only: bool) -> None:
    spec = dspy.Signature("q -> first, second, n: int, items: list[str]")
    for before, after in (("", ""), ("Here it is:\n```json\n", "\n```\nDone.")):
        for one in VALUES:
            for other in VALUES:
                values = {"first": one, "n": 3, "items": [other, "second"], "second": other}
                answer = before + json.dumps(values, ensure_ascii=ascii_only, indent=2) + after
                got = {"first": "", "second": ""}
                splitter = JSONSplitter(["first", "second"], _into(got))
                for at in range(0, len(answer), step):
                    splitter.feed(answer[at : at + step])
                splitter.finish()
                read = dspy.JSONAdapter().parse(spec, answer)
                assert got == {"first": read["first"], "second": read["second"]}, answer


@pytest.mark.parametrize("step", [1, 3, 7, 1000])
def test_what_the_xml_splitter_emits_is_what_the_adapter_reads(step: int) -> None:
    spec = dspy.Signature("q -> first, second")
    for one in VALUES:
        for other in VALUES:
            first, second = (value.replace("&", "&amp;").replace("<", "&lt;") for value in (one, other))
            answer = f"Well:\n<first>\n{first}\n</first>\n\n<second>{second}</second> That is all."
            got = {"first": "", "second": ""}
            splitter = XMLSplitter(["first", "second"], _into(got))
            for at in range(0, len(answer), step):
                splitter.feed(answer[at : at + step])
            splitter.finish()
            read = dspy.XMLAdapter().parse(spec, answer)
            assert got == {"first": read["first"], "second": read["second"]}, answer


@pytest.mark.parametrize(
    ("adapter", "answer"),
    [
        (dspy.JSONAdapter(), '{"answer": "one two three four five"}'),
        (dspy.XMLAdapter(), "<answer>\none two three four five\n</answer>"),
    ],
)
def test_programs_stream_under_the_json_and_the_xml_adapter(adapter: Any, answer: str) -> None:
    async def use(qa: Any, question: str) -> Any:
        with dspy.context(adapter=adapter):
            return await qa.acall(question=question)

    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        server.script = [Reply(text=answer)]
        chunks: list[tuple[str, str, int]] = []
        ctx = context(profile(server), emit=lambda *chunk: chunks.append(chunk))
        outcome = await engine.run_module(AsyncOneField(use), {"question": "a"}, ctx)
        assert _by_call(chunks) == {0: "one two three four five"} == {0: outcome.outputs["answer"]}
        assert len(chunks) > 2

    scenario(steps)
