"""Programs as a reader of DSPy's documentation writes them: one from each of its tutorials and guides."""

from __future__ import annotations

import datetime
import enum
from typing import Any, Literal, Optional

import dspy
import pydantic
from dspy.utils.callback import BaseCallback

from tests.differential.case import case

DOCS = ["The sky is blue because of Rayleigh scattering.", "Water boils at 100 degrees.", "Paris is the capital of France."]


def search(query: str, k: int = 2) -> list[str]:
    """The documents that share most words with the query."""
    words = set(query.lower().split())
    return sorted(DOCS, key=lambda text: -len(words & set(text.lower().split())))[:k]


@case("doc_rag")
class RAG(dspy.Module):
    """Retrieval-augmented generation."""

    def __init__(self, num_docs: int = 2) -> None:
        super().__init__()
        self.num_docs = num_docs
        self.respond = dspy.ChainOfThought("context, question -> response")

    def forward(self, question: str) -> Any:
        context = search(question, k=self.num_docs)
        return self.respond(context=context, question=question)


class Kind(str, enum.Enum):  # noqa: UP042 - as the documentation has it
    """Kinds of mail."""

    ORDER = "order_confirmation"
    SUPPORT = "support_request"


class Entity(pydantic.BaseModel):
    """Something that a mail names."""

    kind: str
    value: str
    confidence: float = pydantic.Field(ge=0, le=3)


class Classify(dspy.Signature):
    """Classify the type and urgency of an email based on its content."""

    subject: str = dspy.InputField(desc="The subject line")
    body: str = dspy.InputField()
    kind: Kind = dspy.OutputField(desc="The classified type")
    urgency: Literal["low", "high"] = dspy.OutputField()
    reasoning: str = dspy.OutputField(desc="Brief explanation")


class Extract(dspy.Signature):
    """Extract key entities and information from email content."""

    body: str = dspy.InputField()
    kind: Kind = dspy.InputField()
    entities: list[Entity] = dspy.OutputField(desc="All that is named")
    amount: Optional[float] = dspy.OutputField()
    deadline: Optional[datetime.date] = dspy.OutputField()


@case("doc_email", {"subject": "Order #1", "body": "Thanks for your order of 5 EUR."})
class Mail(dspy.Module):
    """Extraction in steps; a field of the first step is an input of the second."""

    def __init__(self) -> None:
        super().__init__()
        self.classify = dspy.ChainOfThought(Classify)
        self.extract = dspy.ChainOfThought(Extract)

    def forward(self, subject: str, body: str = "") -> Any:
        kind = self.classify(subject=subject, body=body)
        found = self.extract(body=body, kind=kind.kind)
        return dspy.Prediction(kind=kind.kind, urgency=kind.urgency, entities=found.entities, deadline=found.deadline)


class Faithful(dspy.Signature):
    """Verify that the text is based on the provided context."""

    context: str = dspy.InputField(desc="facts here are assumed to be true")
    text: str = dspy.InputField()
    faithfulness: bool = dspy.OutputField()
    evidence: dict[str, list[str]] = dspy.OutputField(desc="Supporting evidence for claims")


case("doc_citations", {"context": "Lee scored twice.", "text": "Lee scored 3 goals."})(dspy.ChainOfThought(Faithful))


class Outline(dspy.Signature):
    """Outline a thorough overview of a topic."""

    topic: str = dspy.InputField()
    title: str = dspy.OutputField()
    sections: list[str] = dspy.OutputField()
    subheadings: dict[str, list[str]] = dspy.OutputField(desc="mapping from section headings to subheadings")


@case("doc_article", {"topic": "World Cup 2002"}, concurrent=True)
class Article(dspy.Module):
    """A plan, and a part for each of its entries."""

    def __init__(self) -> None:
        super().__init__()
        self.outline = dspy.ChainOfThought(Outline)
        self.draft = dspy.ChainOfThought("topic, heading -> content")

    def forward(self, topic: str) -> Any:
        plan = self.outline(topic=topic)
        pairs = [(self.draft, {"topic": topic, "heading": f"## {heading}"}) for heading in plan.sections]
        parts = dspy.Parallel(num_threads=2, disable_progress_bar=True)(pairs)
        return dspy.Prediction(title=plan.title, sections=[part.content for part in parts])


class Day(pydantic.BaseModel):
    """A day, as models like it."""

    year: int
    month: int
    day: int


class Flight(pydantic.BaseModel):
    """A flight."""

    id: str
    leaves: Day


def flights(origin: str, day: Day) -> list[Flight]:
    """Flights from an airport on a day."""
    return [Flight(id=f"{origin}1", leaves=day)]


def book(flight: str, seats: int = 1, window: bool = False) -> dict[str, Any]:
    """Books seats."""
    return {"flight": flight, "seats": seats}


class Service(dspy.Signature):
    """You are an airline customer service agent that helps user book and manage flights."""

    user_request: str = dspy.InputField()
    process_result: str = dspy.OutputField(desc="Message that summarizes the result, with the confirmation number")


case("doc_agent", {"user_request": "from SFO on 9/1/2025"})(dspy.ReAct(Service, tools=[book, flights], max_iters=3))


@case("doc_multi_hop", {"claim": "The sky is blue because of water."})
class Hops(dspy.Module):
    """Several searches, each with what the last one has found."""

    def __init__(self, hops: int = 2) -> None:
        super().__init__()
        self.hops = hops
        self.generate_query = dspy.ChainOfThought("claim, notes -> query")
        self.append_notes = dspy.ChainOfThought("claim, notes, context -> new_notes: list[str], titles: list[str]")

    def forward(self, claim: str) -> Any:
        notes: list[str] = []
        titles: list[str] = []
        for _ in range(self.hops):
            query = self.generate_query(claim=claim, notes=notes).query
            found = self.append_notes(claim=claim, notes=notes, context=search(query))
            notes.extend(found.new_notes)
            titles.extend(found.titles)
        return dspy.Prediction(notes=notes, titles=sorted(set(titles)))


class Calls(dspy.Signature):
    """The model chooses tools, and the program calls them."""

    question: str = dspy.InputField()
    tools: list[dspy.Tool] = dspy.InputField()
    outputs: dspy.ToolCalls = dspy.OutputField()


@case("doc_tool_calls")
class ManualTools(dspy.Module):
    """Tools without an agent."""

    def __init__(self) -> None:
        super().__init__()
        self.tools = {"search": dspy.Tool(search)}
        self.choose = dspy.Predict(Calls)

    def forward(self, question: str) -> Any:
        found = self.choose(question=question, tools=list(self.tools.values()))
        return {"calls": [call.model_dump() for call in found.outputs.tool_calls]}


@case("doc_conversation", {"questions": ["Who?", "Where?"]})
class Talk(dspy.Module):
    """A conversation that the program keeps itself."""

    def forward(self, questions: list[str]) -> Any:
        class Ask(dspy.Signature):
            question: str = dspy.InputField()
            history: dspy.History = dspy.InputField()
            answer: str = dspy.OutputField()

        ask, history = dspy.Predict(Ask), dspy.History(messages=[])
        for question in questions:
            found = ask(question=question, history=history)
            history.messages.append({"question": question, **found})
        return {"turns": len(history.messages), "last": history.messages[-1]}


def one_word(args: dict[str, Any], pred: Any) -> float:
    """What BestOfN is for."""
    return 1.0 if len(pred.answer.split()) == 1 else 0.0


case("doc_one_word")(dspy.BestOfN(module=dspy.ChainOfThought("question -> answer"), N=3, reward_fn=one_word, threshold=1.0, fail_count=2))


class Log(BaseCallback):
    """Notes what an agent thinks, as the observability guide has it."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def on_module_end(self, call_id: str, outputs: Any, exception: Any = None) -> None:
        step = "reasoning" if self._is_reasoning(outputs) else "acting"
        self.steps.append(f"{step}: {sorted(outputs.keys())}" if outputs is not None else "nothing")

    def _is_reasoning(self, outputs: Any) -> bool:
        return any(name.startswith("next_thought") for name in outputs.keys())  # noqa: SIM118


@case("doc_observed")
class Observed(dspy.Module):
    """An agent whose steps are noted."""

    def __init__(self) -> None:
        super().__init__()
        self.agent = dspy.ReAct("question -> answer: float", tools=[search], max_iters=2)

    def forward(self, question: str) -> Any:
        log = Log()
        with dspy.context(callbacks=[log]):
            found = self.agent(question=question)
        return {"answer": found.answer, "steps": log.steps}


class Words(dspy.streaming.StatusMessageProvider):
    """What a caller sees of a tool's call."""

    def tool_start_status_message(self, instance: Any, inputs: Any) -> str:
        return f"calling {instance.name}"


@case("doc_status_messages", concurrent=True)
class Status(dspy.Module):
    """Status messages of an agent that streams."""

    async def aforward(self, question: str) -> Any:
        agent = dspy.ReAct("question -> answer", tools=[search], max_iters=2)
        program = dspy.streamify(agent, status_message_provider=Words(), is_async_program=True)
        told, last = [], None
        async for found in program(question=question):
            if isinstance(found, dspy.streaming.StatusMessage):
                told.append(found.message)
            elif isinstance(found, dspy.Prediction):
                last = found
        return {"told": told, "answer": last.answer if last else None}


case("doc_code", {"task": "add two numbers"})(dspy.Predict("task -> code: dspy.Code['python'], tests: int"))
