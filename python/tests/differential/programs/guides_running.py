"""Programs after DSPy's guides: streams inside of programs, callbacks, caches, further optimisers, embeddings, what modules tell of themselves."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import dspy
from dspy.primitives import LocalInterpreter
from dspy.utils.callback import BaseCallback
from dspy.utils.unbatchify import Unbatchify

from tests.differential.case import case
from tests.differential.programs.agents import lookup
from tests.differential.programs.training import SET, metric

LONG = "a question that is long enough to be streamed in several pieces"


class TwoParts(dspy.Module):
    """Two predictors whose outputs have the same name."""

    def __init__(self) -> None:
        super().__init__()
        self.one = dspy.Predict("question -> answer")
        self.two = dspy.Predict("question, hint -> answer, score: float")

    def forward(self, question: str) -> Any:
        return self.two(question=question, hint=self.one(question=question).answer)


@case("guide_listeners", concurrent=True)
class Listeners(dspy.Module):
    """A listener for each predictor."""

    async def aforward(self, question: str) -> Any:
        program = TwoParts()
        listeners = [dspy.streaming.StreamListener("answer", predict=part, predict_name=name) for name, part in program.named_predictors()]
        texts: dict[str, str] = {}
        last = None
        async for found in dspy.streamify(program, stream_listeners=listeners)(question=LONG):
            if isinstance(found, dspy.streaming.StreamResponse):
                texts[found.predict_name] = texts.get(found.predict_name, "") + found.chunk
            elif isinstance(found, dspy.Prediction):
                last = found
        return {"texts": texts, "answer": last.answer if last else None}


@case("guide_sync_stream")
class SyncStream(dspy.Module):
    """A stream in synchronous code."""

    def forward(self, question: str) -> Any:
        listener = dspy.streaming.StreamListener("answer")
        program = dspy.streamify(dspy.Predict("question -> answer"), stream_listeners=[listener], async_streaming=False)
        found = list(program(question=LONG))
        return {"text": "".join(part.chunk for part in found if isinstance(part, dspy.streaming.StreamResponse)), "last": found[-1]}


@case("guide_reused_listener", concurrent=True)
class Reused(dspy.Module):
    """The thoughts of an agent as a stream."""

    async def aforward(self, question: str) -> Any:
        agent = dspy.ReAct("question -> answer", tools=[lookup], max_iters=3)
        listener = dspy.streaming.StreamListener("next_thought", allow_reuse=True)
        text, last = "", None
        async for found in dspy.streamify(agent, stream_listeners=[listener])(question=LONG):
            if isinstance(found, dspy.streaming.StreamResponse):
                text += found.chunk
            elif isinstance(found, dspy.Prediction):
                last = found
        return {"thoughts": text, "answer": last.answer if last else None}


@case("guide_stream_that_fails")
class StreamFails(dspy.Module):
    """The failure of a streamed program is the program's own."""

    async def aforward(self, question: str) -> Any:
        async for _ in dspy.streamify(dspy.Predict("question -> answer"))(question="please fail with 429"):
            pass


class Watch(BaseCallback):
    """What formats, parses, evaluates and fails."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_module_end(self, call_id: str, outputs: Any, exception: Any = None) -> None:
        self.seen.append(f"module gave {sorted(outputs)} {type(exception).__name__}")

    def on_adapter_format_end(self, call_id: str, outputs: Any, exception: Any = None) -> None:
        self.seen.append(f"formatted {len(outputs)}")

    def on_adapter_parse_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        self.seen.append(f"parses {inputs['completion'][:20]}")

    def on_evaluate_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        self.seen.append("evaluates")

    def on_evaluate_end(self, call_id: str, outputs: Any, exception: Any = None) -> None:
        self.seen.append(f"evaluated {outputs.score}")

    def on_lm_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        self.seen.append(f"asks {instance.model} {sorted(inputs)}")

    def on_tool_end(self, call_id: str, outputs: Any, exception: Any = None) -> None:
        self.seen.append(f"tool gave {outputs} {type(exception).__name__}")


@case("guide_watched")
class Watched(dspy.Module):
    """Every kind of callback."""

    def forward(self, question: str) -> Any:
        watch = Watch()
        with dspy.context(callbacks=[watch]):
            dspy.ReAct("question -> answer", tools=[lookup], max_iters=2)(question=question)
            dspy.Evaluate(devset=SET[:2], metric=metric, num_threads=1, display_progress=False)(dspy.Predict("question -> answer"))
        return {"seen": watch.seen}


@case("guide_callback_of_a_module")
class OwnCallback(dspy.Module):
    """Callbacks that belong to one module, and one that raises."""

    def forward(self, question: str) -> Any:
        class Bad(BaseCallback):
            def on_module_start(self, call_id: str, instance: Any, inputs: Any) -> None:
                raise ValueError("of no matter")

        watch = Watch()
        found = dspy.Predict("question -> answer", callbacks=[Bad(), watch])(question=question)
        return {"answer": found.answer, "seen": watch.seen}


@case("guide_rollouts")
class Rollouts(dspy.Module):
    """The same call at other temperatures and rollouts."""

    def forward(self, question: str) -> Any:
        ask = dspy.Predict("question -> answer")
        found = [ask(question=question, config={"rollout_id": n, "temperature": 1.0}).answer for n in range(2)]
        return {"found": found, "more": ask(question=question, config={"n": 2, "temperature": 0.5}).completions.answer}


@case("guide_texts_of_a_model")
class Texts(dspy.Module):
    """The model alone: settings of a call, several texts, a failure."""

    def forward(self, question: str) -> Any:
        lm = dspy.settings.lm
        failed = ""
        try:
            lm("please fail with 500")
        except dspy.LMError as error:
            failed = f"{type(error).__name__} {dspy.is_retryable_lm_error(error)}"
        return {
            "one": lm(question, temperature=0.2, max_tokens=7),
            "two": lm(question, n=2),
            "failed": failed,
            "model": lm.model,
            "type": lm.model_type,
        }


@case("guide_logprobs")
class Chances(dspy.Module):
    """What a model tells of its words, where it does."""

    def forward(self, question: str) -> Any:
        found = dspy.Predict("question -> answer", logprobs=True)(question=question)
        return {"answer": found.answer, "keys": sorted(found.keys())}


@case("guide_of_itself")
class Itself(dspy.Module):
    """What modules tell of themselves, and their copies."""

    def forward(self, question: str) -> Any:
        program = TwoParts()
        program.one.demos = [dspy.Example(question="a", answer="b")]
        copy, empty = program.deepcopy(), program.reset_copy()
        program.map_named_predictors(lambda predictor: dspy.ChainOfThought(predictor.signature))
        try:
            lm = str(copy.get_lm())
        except ValueError:
            lm = "several"
        return {
            "text": repr(copy), "names": [name for name, _ in program.named_predictors()], "parts": [name for name, _ in program.named_sub_modules()],
            "demos": [len(copy.one.demos), len(empty.one.demos)], "lm": lm, "state": copy.dump_state()["one"]["demos"], "answer": program(question=question),
        }  # fmt: skip


@case("guide_values")
class Values(dspy.Module):
    """Examples and predictions as values."""

    def forward(self, question: str) -> Any:
        example = dspy.Example(question=question, answer="a", context=["c"]).with_inputs("question")
        scores = [dspy.Prediction(score=0.25), dspy.Prediction(score=0.5)]
        found = dspy.Prediction.from_completions([{"answer": "a"}, {"answer": "b"}])
        return {
            "inputs": example.inputs(), "labels": example.labels().toDict(), "less": example.without("context"), "same": example == example.copy(),
            "sum": sum(scores), "best": max(scores), "half": scores[1] / 2, "all": found.completions.answer, "first": found.answer, "text": str(found),
        }  # fmt: skip


@case("guide_cached")
class Cached(dspy.Module):
    """A model of one's own with DSPy's cache, which the worker has switched off."""

    def forward(self, question: str) -> Any:
        lm = dspy.settings.lm.copy(cache=True)
        with dspy.context(lm=lm):
            return {"answers": [dspy.Predict("question -> answer")(question=question).answer for _ in range(2)]}


@case("guide_tasks_with_limits", concurrent=True)
class Limited(dspy.Module):
    """Tasks, a semaphore and a time limit."""

    async def aforward(self, question: str) -> Any:
        limit, ask = asyncio.Semaphore(2), dspy.ChainOfThought("question -> answer")

        async def one(n: int) -> str:
            async with limit, asyncio.timeout(60):
                return str((await ask.acall(question=f"{question} {n}")).answer)

        found = [await task for task in asyncio.as_completed([one(n) for n in range(4)])]
        async with asyncio.TaskGroup() as group:
            more = [group.create_task(one(n)) for n in (5, 6)]
        return {"found": sorted(found), "more": [task.result() for task in more]}


@case("guide_parallel_programs", concurrent=True)
class Several(dspy.Module):
    """Different programs at once, failures among them."""

    def forward(self, question: str) -> Any:
        chain, plain = dspy.ChainOfThought("question -> answer"), dspy.Predict("question -> n: int")
        pairs = [
            (chain, dspy.Example(question=question).with_inputs("question")),
            (plain, {"question": question}),
            (plain, {"question": "please fail with 402"}),
        ]
        found, failed, errors = dspy.Parallel(
            num_threads=2, max_errors=5, return_failed_examples=True, provide_traceback=False, disable_progress_bar=True
        )(pairs)
        return {"found": found, "failed": len(failed), "errors": [type(error).__name__ for error in errors]}


@case("guide_unbatched")
class Unbatched(dspy.Module):
    """A function of many as a function of one."""

    def forward(self, question: str) -> Any:
        with Unbatchify(lambda texts: [text.upper() for text in texts], max_batch_size=2, max_wait_time=0.01) as one:
            return {"found": one(question)}


def vectors(texts: list[str]) -> Any:
    """A model of embeddings."""
    return [[float(len(text)), float(text.count("e"))] for text in texts]


@case("guide_embeddings")
class Embedded(dspy.Module):
    """Embeddings, asynchronous ones, neighbours, an index in a file."""

    async def aforward(self, question: str) -> Any:
        embedder = dspy.Embedder(vectors, batch_size=2)
        near = dspy.KNN(k=2, trainset=SET, vectorizer=embedder)(question="What is 1?")
        index = dspy.retrievers.Embeddings(["one", "three", "eleven"], embedder, k=2)
        with tempfile.TemporaryDirectory() as folder:
            index.save(folder)
            again = dspy.retrievers.Embeddings.from_saved(folder, embedder)
        return {"one": embedder("tree"), "all": await embedder.acall(["a", "be", "see"]), "near": len(near), "found": again("ten").passages}


@case("guide_settings_in_a_file")
class Kept(dspy.Module):
    """What dspy.settings.save writes."""

    def forward(self, question: str) -> Any:
        with tempfile.TemporaryDirectory() as folder, dspy.context(lm=None, max_errors=33, callbacks=[]):
            path = str(Path(folder) / "settings")
            dspy.settings.save(path, exclude_keys=["lm", "callbacks", "adapter"])
            return {"kept": dspy.load_settings(path, allow_pickle=True)["max_errors"]}


@case("guide_wrong_inputs_within")
class Wrong(dspy.Module):
    """Inputs of a module within are what DSPy makes of them."""

    def forward(self, question: str) -> Any:
        return dspy.Predict("question, n: int -> answer")(question=question, odd=1)


OPTIMISERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "better_together": (
        lambda: dspy.BetterTogether(
            metric=metric,
            few=dspy.BootstrapFewShot(metric=metric, max_bootstrapped_demos=1, max_labeled_demos=1),
            same=dspy.LabeledFewShot(k=1),
        ),
        {"trainset": SET, "valset": SET[:2], "strategy": "few -> same", "seed": 1},
    ),
    "optuna": (
        lambda: dspy.BootstrapFewShotWithOptuna(metric=metric, max_bootstrapped_demos=1, max_labeled_demos=1, num_candidate_programs=2, num_threads=1),
        {"trainset": SET, "valset": SET, "max_demos": 1},
    ),
    "with_a_teacher": (
        lambda: dspy.BootstrapFewShot(metric=metric, max_bootstrapped_demos=1, teacher_settings={"lm": dspy.settings.lm.copy(temperature=0.5)}),
        {"trainset": SET, "teacher": dspy.Predict("question -> answer")},
    ),
}  # fmt: skip


class Optimised(dspy.Module):
    """A program that an optimiser makes, its model set as DSPy's guide says."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, question: str) -> Any:
        make, more = OPTIMISERS[self.name]
        student = dspy.Predict("question -> answer")
        student.set_lm(dspy.settings.lm)
        made = make().compile(student, **more)
        return {"answer": made(question=question).answer, "demos": [len(predictor.demos) for predictor in made.predictors()]}


for name in OPTIMISERS:
    case(f"guide_optimiser_{name}", concurrent=True)(Optimised(name))


@case("guide_traces", concurrent=True)
class Traces(dspy.Module):
    """What optimisers learn from: a trace of each example."""

    def forward(self, question: str) -> Any:
        found = dspy.bootstrap_trace_data(TwoParts(), SET[:2], metric=metric, num_threads=1)
        return {"found": [[len(entry["trace"]), entry["score"]] for entry in found]}


@case("guide_refine_failures")
class Refined(dspy.Module):
    """Refine of a program that fails."""

    def forward(self, question: str) -> Any:
        inner = dspy.Predict("question -> answer")
        return dspy.Refine(inner, N=2, reward_fn=lambda args, pred: 0.0, threshold=1.0, fail_count=0)(question="please fail with 402")


@case("guide_rlm_tools", {"question": "x"})
class LongContext(dspy.Module):
    """RLM with a tool of one's own, with no answer before its last step."""

    def forward(self, question: str) -> Any:
        rlm = dspy.RLM("question -> answer", max_iters=1, tools=[lookup], interpreter_factory=LocalInterpreter)
        return {"answer": rlm(question=question).answer}
