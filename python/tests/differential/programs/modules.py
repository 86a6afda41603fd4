"""DSPy's modules for composition, choice and retrieval."""

from __future__ import annotations

from typing import Any

import dspy

from tests.differential.case import case


def reward(args: dict[str, Any], pred: Any) -> float:
    """Never enough."""
    return 0.5


def enough(args: dict[str, Any], pred: Any) -> float:
    """Enough at once."""
    return 1.0


case("best_of_n_at_once")(dspy.BestOfN(dspy.ChainOfThought("question -> answer"), N=3, reward_fn=enough, threshold=1.0))
case("best_of_n_all")(dspy.BestOfN(dspy.Predict("question -> answer"), N=3, reward_fn=reward, threshold=1.0))
case("refine_at_once")(dspy.Refine(dspy.Predict("question -> answer"), N=2, reward_fn=enough, threshold=1.0))
case("refine_advice")(dspy.Refine(dspy.ChainOfThought("question -> answer"), N=2, reward_fn=reward, threshold=1.0))


@case("multi_chain")
class Compare(dspy.Module):
    """Several chains, one answer."""

    def __init__(self) -> None:
        super().__init__()
        self.chain = dspy.ChainOfThought("question -> answer")
        self.compare = dspy.MultiChainComparison("question -> answer", M=3)

    def forward(self, question: str) -> Any:
        return self.compare([self.chain(question=f"{question} {n}") for n in range(3)], question=question)


@case("majority")
class Majority(dspy.Module):
    """What most say."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.Predict("question -> answer")

    def forward(self, question: str) -> Any:
        found = [self.answer(question=question).answer for _ in range(3)]
        return dspy.majority([{"answer": text} for text in found])


@case("n_completions")
class Completions(dspy.Module):
    """Several completions of one call."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.Predict("question -> answer", n=3)

    def forward(self, question: str) -> Any:
        return {"answers": list(self.answer(question=question).completions.answer)}


@case("two_steps")
class TwoSteps(dspy.Module):
    """A plan, then an answer."""

    def __init__(self) -> None:
        super().__init__()
        self.plan = dspy.ChainOfThought("question -> plan")
        self.answer = dspy.Predict("question, plan -> answer")

    def forward(self, question: str) -> Any:
        return self.answer(question=question, plan=self.plan(question=question).plan)


@case("nested_modules")
class Nested(dspy.Module):
    """Modules in modules, lists and dicts."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = [TwoSteps(), TwoSteps()]
        self.named = {"last": dspy.Predict("text -> short")}

    def forward(self, question: str) -> Any:
        texts = [step(question=question).answer for step in self.steps]
        return {"short": self.named["last"](text=" ".join(texts)).short, "predictors": [name for name, _ in self.named_predictors()]}


@case("own_signature_call")
class OwnSignature(dspy.Module):
    """Another signature for one call."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.Predict("question -> answer")

    def forward(self, question: str) -> Any:
        return self.answer(question=question, signature=self.answer.signature.with_instructions("Be brief."))


@case("config_of_a_call")
class Config(dspy.Module):
    """Settings for one call."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.Predict("question -> answer")

    def forward(self, question: str) -> Any:
        return self.answer(question=question, config={"temperature": 0.9, "max_tokens": 50})


@case("retrieve")
class Retrieve(dspy.Module):
    """A retriever of one's own, as settings know it."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.ChainOfThought("context: list[str], question -> answer")

    def forward(self, question: str) -> Any:
        def search(query: str, k: int, **more: Any) -> Any:
            return [dspy.Example(long_text=f"{query} {n}") for n in range(k)]

        with dspy.context(rm=search):
            passages = dspy.Retrieve(k=2)(question).passages
        return self.answer(context=passages, question=question)


@case("plain_function")
def plain_function(question: str) -> Any:
    """No module at all."""
    return dspy.Predict("question -> answer")(question=question)


@case("async_function")
async def async_function(question: str) -> Any:
    """A coroutine function."""
    return await dspy.Predict("question -> answer").acall(question=question)


@case("direct_lm_call")
class Direct(dspy.Module):
    """The model without a predictor."""

    def forward(self, question: str) -> Any:
        return {"said": dspy.settings.lm(question), "again": dspy.settings.lm(messages=[{"role": "user", "content": question}])}


@case("lm_copy")
class Copy(dspy.Module):
    """A copy of the model with other settings."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.Predict("question -> answer")

    def forward(self, question: str) -> Any:
        with dspy.context(lm=dspy.settings.lm.copy(temperature=0.1)):
            return self.answer(question=question)


@case("set_lm")
class SetLM(dspy.Module):
    """The model set on the predictors."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.Predict("question -> answer")

    def forward(self, question: str) -> Any:
        module = self.answer.deepcopy()
        module.set_lm(dspy.settings.lm.copy(temperature=0.2))
        return module(question=question)


@case("trace")
class Traced(dspy.Module):
    """DSPy's trace."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.Predict("question -> answer")

    def forward(self, question: str) -> Any:
        self.answer(question=question)
        self.answer(question=question)
        return {"traced": [dict(inputs) for _, inputs, _ in dspy.settings.trace]}


@case("lm_history", differs="history")
class History(dspy.Module):
    """What the model was asked last."""

    def forward(self, question: str) -> Any:
        dspy.Predict("question -> answer")(question=question)
        return {"asked": len(dspy.settings.lm.history)}


@case("usage_on_request")
class Usage(dspy.Module):
    """Counts of a block."""

    def forward(self, question: str) -> Any:
        with dspy.track_usage() as tracker:
            dspy.Predict("question -> answer")(question=question)
        return {"tokens": [sum(usage["total_tokens"] for usage in entries) for entries in tracker.usage_data.values()]}


@case("usage_of_a_prediction")
class UsageOf(dspy.Module):
    """Counts of a prediction, which DSPy has only if it is configured to."""

    def forward(self, question: str) -> Any:
        return {"usage": dspy.Predict("question -> answer")(question=question).get_lm_usage()}


@case("save_and_load")
class Saved(dspy.Module):
    """A state that goes through JSON."""

    def forward(self, question: str) -> Any:
        one, two = dspy.ChainOfThought("question -> answer"), dspy.ChainOfThought("question -> answer")
        one.predict.demos = [dspy.Example(question="a", reasoning="b", answer="c")]
        two.load_state(one.dump_state())
        return two(question=question)
