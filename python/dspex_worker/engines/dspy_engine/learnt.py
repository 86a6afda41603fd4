"""Puts what a program has learnt into its predictors, as DSPy's load_state does, but for what a request must not bring."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from dspy import Signature

__all__ = ["Unfit", "apply"]


class Unfit(Exception):
    """The state is of another program."""

    def __init__(self, why: str, expected: str) -> None:
        super().__init__(why)
        self.expected = expected


def apply(module: Any, learnt: Mapping[str, Mapping[str, Any]], added: str | None = None) -> None:
    """Changes the module's predictors. added: an input that we have put before those of its signature."""
    predictors = dict(module.named_predictors())
    if predictors.keys() != learnt.keys():
        raise Unfit(f"it is of the predictors {_names(learnt)}", f"the predictors {_names(predictors)}")
    for name, predictor in predictors.items():
        _apply_one(name, predictor, learnt[name], added)


def _apply_one(name: str, predictor: Any, learnt: Mapping[str, Any], added: str | None) -> None:
    own = [field for field in predictor.signature.fields if field != added]
    if len(own) != len(learnt["fields"]):
        raise Unfit(f"{name} has {len(learnt['fields'])} fields in it", f"{len(own)} fields: {_names(own)}")
    for demo in learnt["demos"]:
        if not demo.keys() & set(own):
            raise Unfit(f"a demo of {name} has none of its fields, but {_names(demo)}", f"some of {_names(own)}")
    signature = Signature(copy.deepcopy(predictor.signature.fields), learnt["instructions"])
    for field, saved in zip(own, learnt["fields"], strict=True):
        signature.fields[field].json_schema_extra.update(prefix=saved["prefix"], desc=saved["description"])
    predictor.signature = signature
    predictor.demos = copy.deepcopy(learnt["demos"])


def _names(names: Any) -> str:
    listed = sorted(str(name)[:64] for name in names)
    return ", ".join(listed[:12]) + (", ..." if len(listed) > 12 else "")
