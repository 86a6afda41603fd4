"""Every adapter with the modules that most programs are made of, synchronous and asynchronous, streamed and not."""

from __future__ import annotations

from typing import Any

import dspy

from tests.differential.case import case

ADAPTERS: dict[str, Any] = {
    "chat": lambda: dspy.ChatAdapter(),
    "json": lambda: dspy.JSONAdapter(),
    "xml": lambda: dspy.XMLAdapter(),
    "two_step": lambda: dspy.TwoStepAdapter(dspy.settings.lm),
    "none": None,
}


class Under(dspy.Module):
    """A module under an adapter."""

    def __init__(self, adapter: str, inner: Any) -> None:
        super().__init__()
        self.adapter = adapter
        self.inner = inner

    def forward(self, **inputs: Any) -> Any:
        if ADAPTERS[self.adapter] is None:
            return self.inner(**inputs)
        with dspy.context(adapter=ADAPTERS[self.adapter]()):
            return self.inner(**inputs)


class AsyncUnder(Under):
    """The same as a coroutine."""

    async def aforward(self, **inputs: Any) -> Any:
        if ADAPTERS[self.adapter] is None:
            return await self.inner.acall(**inputs)
        with dspy.context(adapter=ADAPTERS[self.adapter]()):
            return await self.inner.acall(**inputs)


class Instructed(dspy.Signature):
    """Answer with care, and say how sure you are."""

    question: str = dspy.InputField(desc="what is asked")
    facts: list[str] = dspy.InputField(desc="what is known")
    answer: str = dspy.OutputField(desc="one sentence")
    sure: float = dspy.OutputField(desc="0 to 1")


def _with_demos() -> Any:
    found = dspy.Predict("question -> answer")
    found.demos = [
        dspy.Example(question="1+1?", answer="2").with_inputs("question"),
        dspy.Example(question="2+2?", answer="4").with_inputs("question"),
    ]
    return found


INNER: dict[str, tuple[Any, dict[str, Any]]] = {
    "predict": (lambda: dspy.Predict("question -> answer"), {"question": "Why?"}),
    "two_outputs": (lambda: dspy.Predict("question -> answer, reason"), {"question": "Why?"}),
    "typed": (lambda: dspy.Predict("question -> n: int, sure: bool, words: list[str]"), {"question": "How many?"}),
    "chain": (lambda: dspy.ChainOfThought("question -> answer"), {"question": "Why?"}),
    "instructed": (lambda: dspy.Predict(Instructed), {"question": "Why?", "facts": ["it is", "it was"]}),
    "demos": (_with_demos, {"question": "Why?"}),
    "config": (lambda: dspy.Predict("question -> answer", temperature=0.3, max_tokens=99), {"question": "Why?"}),
}

for adapter in ADAPTERS:
    for name, (make, inputs) in INNER.items():
        for kind in (Under, AsyncUnder):
            how = "sync" if kind is Under else "async"
            case(f"adapter_{adapter}_{name}_{how}", inputs)(kind(adapter, make()))

for adapter in ("chat", "json", "xml", "none"):
    for kind in (Under, AsyncUnder):
        how = "sync" if kind is Under else "async"
        case(f"stream_{adapter}_{how}", {"question": "Tell me a long story about nothing at all"}, stream=True)(
            kind(adapter, dspy.ChainOfThought("question -> answer"))
        )
