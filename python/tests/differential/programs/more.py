"""Agents that write code, tools of MCP, further optimisers and adapters, files."""

from __future__ import annotations

import sys
import tempfile
import types
import warnings
from pathlib import Path
from typing import Any

import dspy
from dspy.adapters.baml_adapter import BAMLAdapter
from dspy.primitives import LocalInterpreter

from tests.differential.case import case
from tests.differential.programs.agents import lookup, lookup_later
from tests.differential.programs.training import SET, metric

case("react_v2")(dspy.ReActV2("question -> answer", tools=[lookup], max_iters=2))
case("react_v2_typed")(dspy.ReActV2("question -> n: int", tools=[lookup], max_iters=2))


@case("react_v2_async")
class AgentV2(dspy.Module):
    """The same as a coroutine, with an asynchronous tool."""

    def __init__(self) -> None:
        super().__init__()
        self.agent = dspy.ReActV2("question -> answer", tools=[lookup_later], max_iters=2)

    async def aforward(self, question: str) -> Any:
        return await self.agent.acall(question=question)


CODE = "please answer exactly ([[ ## reasoning ## ]]\nso\n\n[[ ## code ## ]]\n```python\nx = 7\n```\n\n[[ ## generated_code ## ]]\nx = 7)"
CODERS: dict[str, Any] = {
    "rlm": lambda: dspy.RLM("question -> answer", max_iters=2, interpreter_factory=LocalInterpreter),
    "code_act": lambda: dspy.CodeAct("question -> answer", tools=[lookup], max_iters=2, interpreter_factory=LocalInterpreter),
    "program_of_thought": lambda: dspy.ProgramOfThought("question -> answer", max_iters=2, interpreter_factory=LocalInterpreter),
}
for name, make in CODERS.items():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # DSPy 3.5 has no CodeAct
        case(name)(make())
        case(f"{name}_code", {"question": CODE})(make())


class Text:
    """A text, as the package mcp has it."""

    def __init__(self, text: str) -> None:
        self.text = text


class Session:
    """A client of an MCP server."""

    async def call_tool(self, name: str, arguments: dict[str, Any], **more: Any) -> Any:
        return types.SimpleNamespace(content=[Text(f"{name} {arguments}")], isError=False)


@case("mcp_tool")
class MCP(dspy.Module):
    """A tool of an MCP server, in an agent and alone."""

    async def aforward(self, question: str) -> Any:
        sys.modules.setdefault("mcp", types.ModuleType("mcp"))
        known = types.ModuleType("mcp.types")
        known.TextContent = Text  # type: ignore[attr-defined]
        sys.modules["mcp.types"] = known
        schema = {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]}
        told = types.SimpleNamespace(name="find", description="Finds.", inputSchema=schema)
        tool = dspy.Tool.from_mcp_tool(Session(), told)
        found = await dspy.ReAct("question -> answer", tools=[tool], max_iters=2).acall(question=question)
        return {"alone": await tool.acall(word="w"), "answer": found.answer, "seen": found.trajectory["observation_0"]}


@case("baml_adapter")
class BAML(dspy.Module):
    """Another adapter of DSPy's."""

    def forward(self, question: str) -> Any:
        with dspy.context(adapter=BAMLAdapter()):
            return dspy.Predict("question -> answer, n: int")(question=question)


def feedback(gold: Any, pred: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None) -> Any:
    """What GEPA learns from."""
    return dspy.Prediction(score=float(gold.answer == pred.answer), feedback="say more")


OPTIMISERS: dict[str, Any] = {
    "gepa": lambda: dspy.GEPA(
        metric=feedback, max_metric_calls=8, reflection_minibatch_size=2, reflection_lm=dspy.settings.lm, num_threads=1
    ),
    "copro": lambda: dspy.COPRO(metric=metric, breadth=2, depth=1),
    "simba": lambda: dspy.SIMBA(metric=metric, bsize=2, num_candidates=2, max_steps=1, max_demos=1, num_threads=1),
    "infer_rules": lambda: dspy.InferRules(metric=metric, num_candidates=1, num_rules=1, num_threads=1, max_bootstrapped_demos=1),
    "mipro": lambda: dspy.MIPROv2(metric=metric, auto=None, num_candidates=2, num_threads=1, max_bootstrapped_demos=1, max_labeled_demos=1),
    "knn_few_shot": lambda: dspy.KNNFewShot(k=1, trainset=SET, vectorizer=dspy.Embedder(_vectors)),
    "better_together": lambda: dspy.BetterTogether(metric=metric, a=dspy.BootstrapFewShot(metric=metric, max_bootstrapped_demos=1)),
}
MORE: dict[str, dict[str, Any]] = {
    "gepa": {"trainset": SET[:2], "valset": SET[2:]},
    "copro": {"trainset": SET, "eval_kwargs": {"num_threads": 1, "display_progress": False}},
    "mipro": {"trainset": SET, "valset": SET, "num_trials": 1, "minibatch": False},
    "knn_few_shot": {},
    "better_together": {"trainset": SET, "strategy": "a"},
}


def _vectors(texts: list[str]) -> Any:
    return [[float(len(text)), 1.0] for text in texts]


class Optimised(dspy.Module):
    """A program that an optimiser makes."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, question: str) -> Any:
        made = OPTIMISERS[self.name]().compile(dspy.Predict("question -> answer"), **MORE.get(self.name, {"trainset": SET}))
        return {"answer": made(question=question).answer, "told": [predictor.signature.instructions for predictor in made.predictors()]}


for name in OPTIMISERS:
    case(f"optimiser_{name}", concurrent=True)(Optimised(name))


@case("embeddings")
class Embedded(dspy.Module):
    """A search over vectors."""

    def forward(self, question: str) -> Any:
        search = dspy.retrievers.Embeddings(["one", "three"], dspy.Embedder(_vectors), k=1)
        return {"found": search(question).passages}


@case("save_and_load_a_file")
class Filed(dspy.Module):
    """A state that goes through a file."""

    def forward(self, question: str) -> Any:
        one, two = dspy.ChainOfThought("question -> answer"), dspy.ChainOfThought("question -> answer")
        one.predict.demos = [dspy.Example(question="a", reasoning="b", answer="c")]
        one.predict.signature = one.predict.signature.with_instructions("Be brief.")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "state.json"
            one.save(path)
            two.load(path)
        return two(question=question)
