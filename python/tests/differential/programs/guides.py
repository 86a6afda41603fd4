"""Programs after DSPy's guides: decisions, documents, models and adapters of one's own, metrics, states, signatures that programs make."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import dspy
import pydantic
from dspy.evaluate import CompleteAndGrounded, SemanticF1, answer_exact_match, answer_passage_match
from dspy.experimental import Choice, Citations, Document, Noul, ReAnchor, Score
from dspy.lm15 import Message, Response, Usage
from dspy.primitives import LocalInterpreter
from typing_extensions import TypedDict

from tests.differential.case import case
from tests.differential.programs.agents import add, lookup, lookup_later

Urgent = Noul[(True, "The customer is blocked"), (False, "The customer has a workaround")]
Severity = Score["Cosmetic", "Degrades work", "Blocks work"]
Category = Choice[("billing", "Payments"), ("technical", "Bugs"), ("account", "Access")]


class Triage(dspy.Signature):
    """Assess a ticket for routing."""

    ticket: str = dspy.InputField(desc="The message.")
    urgent: Urgent = dspy.OutputField(desc="Is the customer blocked?")
    severity: Severity = dspy.OutputField(desc="How severe is it?")
    category: Category = dspy.OutputField(desc="What kind of issue is it?")
    plain: Annotated[bool, Urgent] = dspy.OutputField(desc="Is an answer needed today?")
    summary: str = dspy.OutputField()


def evidence(urgent: float, *severity: float) -> str:
    """What a model says of a ticket: chances, from which DSPy makes values."""
    chances = ", ".join(f'"{n}": {chance}' for n, chance in enumerate(severity))
    return (
        f'please answer exactly ({{"urgent": {{"noul": {urgent}}}, "severity": {{"probabilities": {{{chances}}}, "confidence": 0.9}}, '
        '"category": {"probabilities": {"billing": 0.5, "technical": 0.4, "account": 0.1}, "confidence": 0.6}, '
        '"plain": {"noul": 0.2}, "summary": "short"})'
    )


@case("guide_decisions", {"ticket": evidence(0.6, 0.1, 0.3, 0.6)})
class Decisions(dspy.Module):
    """Values that are made of chances, by thresholds, cuts and weights."""

    def __init__(self) -> None:
        super().__init__()
        self.triage = dspy.Predict(Triage)
        self.triage.fields["urgent"] = {"threshold": 0.7}
        self.triage.fields["severity"] = {"cuts": [0.5, 1.6]}
        self.triage.fields["category"] = {"weights": {"technical": 2.0}}
        self.triage.set_criteria("urgent", {"true": {"what": "blocked"}, "false": "usable"})

    def forward(self, ticket: str) -> Any:
        with dspy.context(adapter=dspy.JSONAdapter()):
            found = self.triage(ticket=ticket)
        return {"all": found, "urgent": bool(found.urgent), "level": found.severity.level, "kind": type(found.plain).__name__}


class DecideRules(dspy.Module):
    """A decision without a description is refused before the model is asked."""

    def forward(self, question: str) -> Any:
        return dspy.Predict(dspy.Signature({"question": (str, dspy.InputField()), "yes": (Urgent, dspy.OutputField(desc=""))}))(
            question=question
        )


case("guide_decision_refused")(DecideRules())


@case("guide_reanchor", {"ticket": "calm"}, concurrent=True)
class Calibrated(dspy.Module):
    """Thresholds and cuts that fit examples."""

    def forward(self, ticket: str) -> Any:
        trainset = [
            dspy.Example(question=f'please answer exactly ({{"urgent": {{"noul": {p}}}}})', urgent=p > 0.3).with_inputs("question")
            for p in (0.2, 0.4)
        ]

        def metric(example: Any, pred: Any, trace: Any = None) -> float:
            return float(pred.urgent.value == example.urgent)

        judge = dspy.Signature({"question": (str, dspy.InputField()), "urgent": (Urgent, dspy.OutputField(desc="Is it urgent?"))})
        optimizer = ReAnchor(metric, require_cache=False, num_threads=1)
        with dspy.context(adapter=dspy.JSONAdapter()):
            made = optimizer.compile(dspy.Predict(judge), trainset=trainset)
        return {"fields": made.fields, "before": optimizer.report["train_score_before"], "after": optimizer.report["train_score"]}


class Sourced(dspy.Signature):
    """Answer from the documents."""

    documents: list[Document] = dspy.InputField()
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()
    citations: Citations = dspy.OutputField()


EARTH = {"data": "The Earth orbits the Sun.", "title": "Basics"}
case(
    "guide_citations",
    {"documents": [EARTH], "question": "What orbits?"},
    differs="litellm",
    plain=lambda: {"documents": [Document(**EARTH)], "question": "What orbits?"},
)(dspy.Predict(Sourced))
case("guide_reasoning")(dspy.Predict("question -> reasoning: dspy.Reasoning, answer: int"))


FLEX = """class Solve(dspy.Module):
    def __init__(self):
        super().__init__()
        self.extract = dspy.Predict("question: str -> n: int")

    def forward(self, **inputs):
        found = self.extract(question=inputs["question"])
        return dspy.Prediction(answer=str(int(found.n) * 2))
"""


@case("guide_flex")
class Flexible(dspy.Module):
    """A module whose code is what an optimiser changes."""

    def __init__(self) -> None:
        super().__init__()
        self.solve = dspy.Flex("question: str -> answer: str", interpreter_factory=LocalInterpreter)

    def forward(self, question: str) -> Any:
        first = self.solve(question=question).answer
        other = dspy.Flex("question: str -> answer: str", interpreter_factory=LocalInterpreter)
        other.load_state({"module_src": FLEX, "lm": None})
        return {"first": first, "second": other(question=question).answer}


class Shout:
    """An engine of one's own: no HTTP, no provider."""

    def __init__(self, mark: str = "!") -> None:
        self.mark = mark

    def complete(self, request: Any) -> Any:
        """One answer."""
        text = f"[[ ## answer ## ]]\n{len(request.messages)}{self.mark}\n\n[[ ## completed ## ]]"
        return Response(id=None, model=request.model, message=Message.assistant(text), finish_reason="stop", usage=Usage())

    def dump_state(self) -> dict[str, str]:
        """What saves it."""
        return {"mark": self.mark}

    @classmethod
    def load_state(cls, state: dict[str, str]) -> Shout:
        """What makes it again."""
        return cls(**state)


@case("guide_own_engine", differs="usage_of_own_models")
class OwnEngine(dspy.Module):
    """dspy.LM on an engine of one's own, as it is and with the job's model beside it."""

    def forward(self, question: str) -> Any:
        own = dspy.LM("shout", engine=Shout("?"), cache=False, num_retries=0)
        asked = dspy.Predict("question -> answer")
        with dspy.context(lm=own):
            first = asked(question=question).answer
        again = dspy.LM.load_state(own.dump_state(), allow_custom_lm_class=True)
        return {"own": first, "job": asked(question=question).answer, "again": asked(question=question, lm=again).answer}


class Money(dspy.Type):
    """A type of one's own, with a form in the prompt."""

    cents: int
    currency: str = "EUR"

    def format(self) -> str:
        return f"{self.cents / 100:.2f} {self.currency}"

    @classmethod
    def description(cls) -> str:
        return "An amount of money, in cents."


class Pay(dspy.Signature):
    """Settle a bill."""

    bill: Money = dspy.InputField()
    tip: Money = dspy.OutputField()


case("guide_own_type", {"bill": {"cents": 1250}}, plain=lambda: {"bill": Money(cents=1250)})(dspy.Predict(Pay))


class Brief(dspy.ChatAdapter):
    """An adapter of one's own: other words in front, another reading of answers."""

    def format_task_description(self, signature: Any) -> Any:
        return "Be brief. " + super().format_task_description(signature)

    def parse(self, signature: Any, completion: str) -> dict[str, Any]:
        return {name: f"<{value}>" for name, value in super().parse(signature, completion).items()}


@case("guide_own_adapter")
class Adapted(dspy.Module):
    """It is used by modules and agents."""

    def forward(self, question: str) -> Any:
        with dspy.context(adapter=Brief()):
            return {"one": dspy.ChainOfThought("question -> answer")(question=question)}


@case("guide_metrics", {"question": "Why?"})
class Measured(dspy.Module):
    """Metrics that ask a model."""

    def forward(self, question: str) -> Any:
        example = dspy.Example(question=question, response="because of x", answer="x").with_inputs("question")
        pred = dspy.Prediction(response="because", answer="X", context=["x is there"])
        return {
            "f1": SemanticF1()(example, pred),
            "parts": SemanticF1(decompositional=True)(example, pred, trace=[]),
            "grounded": CompleteAndGrounded()(example, pred),
            "exact": answer_exact_match(example, pred),
            "passage": answer_passage_match(example, pred),
        }


@case("guide_evaluation_that_fails", concurrent=True)
class Failing(dspy.Module):
    """Programs and metrics that fail count as failure_score; results go to files."""

    def forward(self, question: str) -> Any:
        devset = [dspy.Example(question=text, answer="a").with_inputs("question") for text in ("fine", "please fail with 401", "odd")]

        def metric(example: Any, pred: Any, trace: Any = None) -> float:
            if "odd" in example.question:
                raise KeyError("odd")
            return 1.0

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "results.json"
            evaluate = dspy.Evaluate(
                devset=devset,
                metric=metric,
                num_threads=2,
                display_progress=False,
                failure_score=0.25,
                max_errors=5,
                save_as_json=str(path),
            )
            found = evaluate(dspy.Predict("question -> answer"))
            return {"score": found.score, "scores": [score for *_, score in found.results], "saved": path.read_text("utf-8")}


@case("guide_too_many_errors", concurrent=True)
class TooMany(dspy.Module):
    """More failures than max_errors end it."""

    def forward(self, question: str) -> Any:
        devset = [dspy.Example(question="please fail with 401").with_inputs("question") for _ in range(3)]
        return dspy.Evaluate(devset=devset, metric=lambda *_: 1, num_threads=1, max_errors=2, display_progress=False)(
            dspy.Predict("question -> answer")
        )


@case("guide_whole_program")
class Whole(dspy.Module):
    """A program saved with its code, and loaded."""

    def forward(self, question: str) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            dspy.ChainOfThought("question -> answer").save(folder, save_program=True)
            return dspy.load(folder, allow_pickle=True)(question=question)


class Box(pydantic.BaseModel):
    """A type that a signature's text names."""

    width: int


class Point(NamedTuple):
    """A named tuple."""

    x: int
    y: int


@dataclasses.dataclass
class Place:
    """A dataclass."""

    name: str
    size: int = 1


class Row(TypedDict):
    """A typed map."""

    key: str
    count: int


@case("guide_signatures")
class Signatures(dspy.Module):
    """Signatures that a program makes: names of types in a text, fields added and changed."""

    def forward(self, question: str) -> Any:
        local = dspy.Predict("question -> box: Box, boxes: list[Box]")(question=question)
        base = dspy.Signature("question -> answer", "Be kind.")
        more = base.append("why", dspy.OutputField(desc="reason"), list[str]).prepend("who", dspy.InputField(), str)
        more = more.insert(0, "first", dspy.OutputField(), bool).with_updated_fields("answer", desc="the answer", type_=Literal["a", "b"])
        found = dspy.Predict(more)(question=question, who="me")
        less = dspy.ChainOfThought(more.delete("why").delete("first"))(question=question, who="you")
        return {"local": local, "found": found, "less": less, "same": base.equals(dspy.Signature("question -> answer", "Be kind."))}


for name, kind in {
    "dataclass": Place,
    "places": list[Place],
    "typed_dict": Row,
    "point": Point,
    "set": set[str],
    "union": int | str,
}.items():
    signature = dspy.Signature({"question": (str, dspy.InputField()), "found": (kind, dspy.OutputField())})
    case(f"guide_out_{name}")(dspy.Predict(signature))


@case("guide_native_tools")
class Native(dspy.Module):
    """Tools that a model calls by its own means, where it can; and what runs them."""

    def forward(self, question: str) -> Any:
        class Ask(dspy.Signature):
            question: str = dspy.InputField()
            tools: list[dspy.Tool] = dspy.InputField()
            answer: str = dspy.OutputField()
            outputs: dspy.ToolCalls = dspy.OutputField()

        with dspy.context(adapter=dspy.ChatAdapter(use_native_function_calling=True)):
            said = 'please answer exactly ([[ ## answer ## ]]\nno\n\n[[ ## outputs ## ]]\n[{"name": "add", "args": {"a": 2}}])'
            found = dspy.Predict(Ask)(question=said, tools=[dspy.Tool(add)])
        return {
            "answer": found.answer,
            "done": [call.execute(functions=[dspy.Tool(add), dspy.Tool(lookup)]) for call in found.outputs.tool_calls],
        }


@case("guide_tools_in_tasks")
class Later(dspy.Module):
    """Calls of asynchronous tools that a program runs itself."""

    async def aforward(self, question: str) -> Any:
        calls = dspy.ToolCalls.from_dict_list([{"name": "lookup_later", "args": {"word": "w"}}])
        return {"done": [await dspy.Tool(lookup_later).acall(**call.args) for call in calls.tool_calls]}
