"""The product's own grammar through real DSPy and real HTTP: whatever signature a client sends, the echo model fills it.

Signatures, inputs, histories and tools are random, the same in every run; the number in a test's name is the seed.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from dspex_worker.engines import Context, Outcome, Program
from dspex_worker.engines.dspy_engine import DSPyEngine
from dspex_worker.signatures.fit import check_inputs, check_outputs
from dspex_worker.signatures.signature import MODULES, Field, Signature, Type, parse_signature
from tests.dspy_case import new_engine
from tests.test_echo_lm import NASTY, survey, url, weather
from tests.test_signature import random_spelling, random_type

__all__ = ["url"]

KINDS = ("str", "int", "float", "bool", "any", "list", "dict", "optional", "literal", "history")
seen: set[str] = set()  # kinds of the grammar that were outputs or inputs


def note(kind: Type) -> None:
    seen.add(kind.kind)
    for inner in kind.args:
        if isinstance(inner, Type):
            note(inner)


def value_of(rng: random.Random, kind: Type) -> Any:
    """A value of the type."""
    simple: dict[str, Any] = {"str": rng.choice(NASTY), "int": rng.randrange(-99, 99), "float": rng.random(), "bool": rng.random() < 0.5}
    if kind.kind in simple:
        return simple[kind.kind]
    if kind.kind == "literal":
        return rng.choice(kind.args)
    if kind.kind == "list":
        return [value_of(rng, kind.args[0]) for _ in range(rng.randrange(3))]
    if kind.kind == "dict":
        return {f"k{i}": value_of(rng, kind.args[0]) for i in range(rng.randrange(3))}
    if kind.kind == "optional":
        return None if rng.random() < 0.5 else value_of(rng, kind.args[0])
    return rng.choice([rng.choice(NASTY), 7, 1.5, True, None, [1, "two"], {"a": {"b": []}}])


def random_signature(rng: random.Random, history: bool) -> tuple[Any, Signature]:
    """A signature as a client sends it, in one of its two forms, and as it is read."""
    sides: dict[str, list[tuple[str, str]]] = {"inputs": [], "outputs": []}
    for side, most in (("inputs", 4), ("outputs", 6)):
        for i in range(rng.randint(1, most)):
            sides[side].append((f"{side[:-1]}_{i}", random_spelling(rng, random_type(rng))))
    if history:
        sides["inputs"].insert(rng.randrange(len(sides["inputs"]) + 1), ("talk", rng.choice(["history", "dspy.History"])))
    if rng.random() < 0.5:
        spec: Any = " -> ".join(", ".join(f"{name}: {kind}" for name, kind in sides[side]) for side in sides)
    else:
        spec = {"name": "Random", "description": "Answer.\n1. `not` (a field): of it"}
        for side, fields in sides.items():
            spec[side] = [{"name": name, "type": kind, "description": f"the {name}, [[ ## x ## ]]"} for name, kind in fields]
    return spec, parse_signature(spec)


def turns(rng: random.Random, signature: Signature) -> list[dict[str, Any]]:
    """Past turns as a session keeps them."""

    def side(fields: tuple[Field, ...]) -> dict[str, Any]:
        return {field.name: value_of(rng, field.type) for field in fields if field.type.kind != "history"}

    return [{"inputs": side(signature.inputs), "outputs": side(signature.outputs)} for _ in range(rng.randrange(1, 4))]


def run(engine: DSPyEngine, program: Program, inputs: dict[str, Any], context: Context) -> Outcome:
    async def main() -> Outcome:
        try:
            return await engine.run(program, inputs, context)
        finally:
            await engine.close()

    return asyncio.run(main())


@pytest.mark.parametrize("seed", range(400))
def test_a_signature_of_the_grammar_is_filled(url: str, seed: int) -> None:
    rng = random.Random(seed)
    own_history = rng.random() < 0.2
    spec, signature = random_signature(rng, own_history)
    given = {f.name: value_of(rng, f.type) for f in signature.inputs if f.type.kind != "history"}
    inputs = check_inputs(signature, given)
    chunks: dict[str | None, str] = {}

    def emit(name: str | None, chunk: str, call: int) -> None:
        chunks[name] = chunks.get(name, "") + chunk

    profile = {
        "name": "echo",
        "provider": "openai_compatible",
        "model": "echo",
        "api_base": url,
        "temperature": rng.choice([None, 0.0, 0.7]),
    }
    context = Context(job="j", attempt=1, session="s", lm=profile, temperature=None, budget_ms=60_000)
    context.emit = emit if rng.random() < 0.3 else None
    context.history = turns(rng, signature) if own_history or rng.random() < 0.3 else []
    module = rng.choice(MODULES)
    tools = rng.choice([[], [weather], [survey, weather]]) if module == "react" else []
    outcome = run(new_engine(tools=tools), Program(signature, module), inputs, context)

    extra = {"reasoning"} if module == "chain_of_thought" else {"trajectory", "reasoning"}
    assert outcome.outputs.keys() - extra == {field.name for field in signature.outputs}, spec
    found = check_outputs(signature, {field.name: outcome.outputs[field.name] for field in signature.outputs})
    assert outcome.usage["openai_compatible/echo"]["completion_tokens"] > 0
    for field in signature.outputs:
        note(field.type)
        if field.type.kind == "str":
            assert found[field.name].startswith("echo"), found
            if context.emit is not None and field.name in chunks:
                assert chunks[field.name].strip() == found[field.name].strip()
    for field in signature.inputs:
        note(field.type)


def test_the_seeds_cover_the_grammar() -> None:
    assert seen >= set(KINDS)
