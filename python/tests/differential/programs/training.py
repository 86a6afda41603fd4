"""Evaluate and the optimisers, each on a tiny set."""

from __future__ import annotations

from typing import Any

import dspy

from tests.differential.case import case

SET = [dspy.Example(question=f"What is {n}?", answer=f"answer of What is {n}?").with_inputs("question") for n in range(4)]


def metric(example: Any, pred: Any, trace: Any = None) -> bool:
    """Whether it is as expected."""
    return bool(example.answer == pred.answer)


def _demos(program: Any) -> Any:
    return [[dict(demo) for demo in predictor.demos] for predictor in program.predictors()]


@case("evaluate", concurrent=True)
class Evaluated(dspy.Module):
    """dspy.Evaluate."""

    def forward(self, question: str) -> Any:
        found = dspy.Evaluate(devset=SET, metric=metric, num_threads=2, display_progress=False)(dspy.Predict("question -> answer"))
        return {"score": found.score, "results": len(found.results)}


@case("labeled_few_shot")
class Labeled(dspy.Module):
    """Examples as demos."""

    def forward(self, question: str) -> Any:
        program = dspy.LabeledFewShot(k=2).compile(dspy.Predict("question -> answer"), trainset=SET)
        return {"answer": program(question=question).answer, "demos": _demos(program)}


@case("bootstrap_few_shot")
class Bootstrapped(dspy.Module):
    """Demos of one's own making."""

    def forward(self, question: str) -> Any:
        optimiser = dspy.BootstrapFewShot(metric=metric, max_bootstrapped_demos=2, max_labeled_demos=1)
        program = optimiser.compile(dspy.Predict("question -> answer"), trainset=SET)
        return {"answer": program(question=question).answer, "demos": len(_demos(program)[0])}


@case("random_search", concurrent=True)
class Searched(dspy.Module):
    """The best of several."""

    def forward(self, question: str) -> Any:
        optimiser = dspy.BootstrapFewShotWithRandomSearch(
            metric=metric, max_bootstrapped_demos=1, max_labeled_demos=1, num_candidate_programs=1, num_threads=1
        )
        return {"answer": optimiser.compile(dspy.Predict("question -> answer"), trainset=SET, valset=SET)(question=question).answer}


@case("ensemble")
class Together(dspy.Module):
    """Several programs as one."""

    def forward(self, question: str) -> Any:
        programs = [dspy.Predict("question -> answer") for _ in range(2)]
        found = dspy.Ensemble(reduce_fn=dspy.majority).compile(programs)(question=question)
        return {"answer": found.answer}
