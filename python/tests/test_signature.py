"""The grammar of signatures: what it reads, what it refuses and with which error, and the check of values."""

from __future__ import annotations

import copy
import json
import math
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

from dspex_worker.signatures import signature as sig
from dspex_worker.signatures.fit import InputError, OutputError, check_inputs, check_outputs
from dspex_worker.signatures.signature import (
    Field,
    Signature,
    SignatureError,
    Type,
    check_module,
    infer_signature,
    parse_signature,
    parse_type,
)

WORDS = ["question", "context", "Answer", "score", "x", "a1", "very_long_name_with_many_words", "type", "match", "json", "copy", "Z9_"]
LITERALS: list[Any] = ["a", "it's", 'say "hi"', "a,b", "x]y", "back\\slash", "->", "é", "", 0, -7, 2**63 - 1, True, False]


def random_type(random: Random, depth: int = 0) -> Type:
    kind = random.choice(["str", "int", "float", "bool", "any", "list", "dict", "optional", "literal"][: 9 if depth < 6 else 5])
    if kind == "literal":
        values: list[Any] = []
        for value in random.sample(LITERALS, random.randrange(1, 5)):
            if not any(value == v and type(value) is type(v) for v in values):
                values.append(value)
        return Type(kind, tuple(values))
    if kind in ("list", "dict", "optional"):
        inner = random_type(random, depth + 1)
        return inner if kind == "optional" and inner.kind == "optional" else Type(kind, (inner,))
    return Type(kind)


def random_spelling(random: Random, kind: Type) -> str:
    names = {
        "str": ["str", "string"],
        "int": ["int", "integer"],
        "float": ["float", "number"],
        "bool": ["bool", "boolean"],
        "any": ["any", "json"],
    }
    space = random.choice(["", "", " ", "  "])
    if kind.kind in names:
        return space + random.choice(names[kind.kind]) + space
    if kind.kind == "literal":
        return space + kind.text().replace("[", "[" + space, 1) + space
    inner = random_spelling(random, kind.args[0])
    if kind.kind == "optional":
        return f"{inner}|{space}None" if random.random() < 0.5 else f"Optional[{inner}]"
    if kind.args[0].kind == "any" and random.random() < 0.3:
        return space + kind.kind
    return f"list[{inner}]{space}" if kind.kind == "list" else f"dict[{random.choice(['str', 'string'])},{space}{inner}]"


def random_value(random: Random, kind: Type) -> Any:
    simple: dict[str, Any] = {"str": "text é", "int": random.randrange(-9, 9), "float": random.random(), "bool": random.random() < 0.5}
    if kind.kind in simple:
        return simple[kind.kind]
    if kind.kind == "any":
        return random.choice([None, 1, 1.5, "x", True, [1, ["y"]], {"k": {"l": []}}])
    if kind.kind == "literal":
        return random.choice(kind.args)
    if kind.kind == "optional":
        return None if random.random() < 0.3 else random_value(random, kind.args[0])
    values = [random_value(random, kind.args[0]) for _ in range(random.randrange(3))]
    return values if kind.kind == "list" else {f"k{i}": v for i, v in enumerate(values)}


def random_fields(random: Random) -> tuple[list[Field], list[Field]]:
    names = random.sample(WORDS, random.randrange(2, 9))
    fields = [Field(name, random_type(random)) for name in names]
    cut = random.randrange(1, len(fields))
    return fields[:cut], fields[cut:]


def test_text_and_map_of_any_signature_are_read_back_to_the_same() -> None:
    random = Random(1)
    for _ in range(500):
        inputs, outputs = random_fields(random)
        sides = [
            ", ".join(f"{f.name}{random.choice(['', ' '])}:{random_spelling(random, f.type)}" for f in side) for side in (inputs, outputs)
        ]
        found = parse_signature(" -> ".join(sides))
        assert (list(found.inputs), list(found.outputs)) == (inputs, outputs), sides
        given = Signature("Name", "Do.", tuple(inputs), tuple(outputs))
        again = parse_signature(json.loads(json.dumps(given.to_map())))
        assert again == given
        assert again.key() == given.key()


def test_values_of_every_type_pass_and_values_of_another_are_named() -> None:
    random = Random(2)
    for _ in range(500):
        inputs, outputs = random_fields(random)
        found = Signature("S", "", tuple(inputs), tuple(outputs))
        good = {f.name: random_value(random, f.type) for f in inputs}
        assert check_inputs(found, dict(reversed(good.items()))) == good
        assert list(check_inputs(found, good)) == [f.name for f in inputs]
        answers = {f.name: random_value(random, f.type) for f in outputs}
        assert check_outputs(found, {**answers, "extra": 1}) == answers
        victim = random.choice(inputs)
        with pytest.raises(InputError, match=victim.name):
            check_inputs(found, {**good, victim.name: object()})
        if victim.type.kind != "optional":
            with pytest.raises(InputError, match=f"missing input '{victim.name}'"):
                check_inputs(found, {k: v for k, v in good.items() if k != victim.name})


def test_keys_differ_when_anything_differs() -> None:
    random = Random(3)
    seen: dict[str, Signature] = {}
    for _ in range(400):
        inputs, outputs = random_fields(random)
        found = Signature("S", random.choice(["", "x"]), tuple(inputs), tuple(outputs))
        # Types that are equal to Python (1 and True) still are different types.
        assert seen.setdefault(found.key(), found).to_map() == found.to_map()
    first = parse_signature("a, b -> c")
    for other in ("b, a -> c", "a -> b, c", "a, b -> C", "a, b: int -> c", "a, b: Literal[1] -> c", "a, b: Literal[True] -> c"):
        assert parse_signature(other).key() != first.key()
    assert first.key() == parse_signature(" a :string,b->c : str ").key()


def test_a_key_is_the_same_in_another_process() -> None:
    code = "from dspex_worker.signatures.signature import parse_signature; print(parse_signature('a, b: dict[str, int] -> c').key())"
    root = Path(sig.__file__).parents[2]
    out = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(root), "PYTHONHASHSEED": "5"}, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == parse_signature("a, b: dict[str, int] -> c").key()


def test_the_manuals_map_is_read() -> None:
    found = parse_signature(
        {"name": "QuestionAnswer", "inputs": [{"name": "question", "type": "string"}], "outputs": [{"name": "answer", "type": "string"}]}
    )
    assert found == Signature("QuestionAnswer", "", (Field("question", Type("str")),), (Field("answer", Type("str")),))


REFUSED: list[tuple[Any, str]] = [
    (None, "string or a map"),
    (3, "string or a map"),
    ([], "string or a map"),
    (b"a -> b", "string or a map"),
    ("", '"->"'),
    ("a -> b: Literal[9223372036854775808]", "an integer of 64 bits"),
    ("question", '"->"'),
    ("a -> b -> c", '"->"'),
    ("-> b", "inputs"),
    ("a ->", "outputs"),
    ("a,, b -> c", "name of a field"),
    ("a, -> c", "name of a field"),
    ("a b -> c", "name of a field"),
    ("1a -> c", "name of a field"),
    ("_a -> c", "name of a field"),
    ("é -> c", "name of a field"),
    ("a\n -> c\x00", "name of a field"),
    ("class -> c", "name of a field"),
    ("None -> c", "name of a field"),
    ("a -> lambda", "name of a field"),
    (f"{'a' * 65} -> c", "name of a field"),
    ("a -> a", "two fields"),
    ("a, a -> b", "two fields"),
    ("a -> b, B", "two fields"),
    ("a: -> b", "type must follow"),
    ("a: strr -> b", "unknown type"),
    ("a: os.system -> b", "unknown type"),
    ("a: dspy.Image -> b", "unknown type"),
    ("a: __import__('os') -> b", "cannot read"),
    ("a: list[str -> b", "expected ']'"),
    ("a: list[] -> b", "a type"),
    ("a: list[str, int] -> b", "expected ']'"),
    ("a: dict[int, str] -> b", "'string' as the type of the keys"),
    ("a: dict[str] -> b", "expected ','"),
    ("a: str int -> b", "the end of the type"),
    ("a: str | int -> b", "'None'"),
    ("a: Literal[] -> b", "quoted text"),
    ("a: Literal[1, 1] -> b", "each value of a Literal once"),
    ("a: Literal[1.5] -> b", "cannot read"),
    ("a: Literal['x' -> b", "expected ']'"),
    ("a: Literal['x\ty'] -> b", "printable"),
    ("a: Optional -> b", "expected '['"),
    ("a: " + "list[" * 9 + "str" + "]" * 9 + " -> b", "nested too deep"),
    ("a: list[history] -> b", "history"),
    ("a: history, b: history -> c", "history"),
    ("a -> b: history", "history"),
    (", ".join(f"f{i}" for i in range(64)) + " -> b", "too many fields"),
    ("a" * 20_000 + " -> b", "too long"),
    ({}, "inputs must be a list"),
    ({"inputs": [], "outputs": [{"name": "a"}]}, "at least one"),
    ({"inputs": [{"name": "a"}], "outputs": {}}, "outputs must be a list"),
    ({"inputs": [{"name": "a"}], "outputs": [{"name": "b"}], "extra": 1}, "unknown keys: 'extra'"),
    ({"inputs": [{"name": "a", "desc": "x"}], "outputs": [{"name": "b"}]}, "unknown keys: 'desc'"),
    ({"inputs": ["a"], "outputs": [{"name": "b"}]}, "must be a map"),
    ({"inputs": [{"name": 1}], "outputs": [{"name": "b"}]}, "must be a string"),
    ({"inputs": [{}], "outputs": [{"name": "b"}]}, "name of a field"),
    ({"inputs": [{"name": "a", "type": 5}], "outputs": [{"name": "b"}]}, "must be a string"),
    ({"inputs": [{"name": "a", "type": "object"}], "outputs": [{"name": "b"}]}, "unknown type"),
    ({"inputs": [{"name": "a"}], "outputs": [{"name": "b", "description": "x" * 20_000}]}, "too long"),
    ({"inputs": [{"name": f"a{i}", "description": "x" * 16_000} for i in range(5)], "outputs": [{"name": "b"}]}, "too long"),
    ({"inputs": [{"name": f"a{i}"} for i in range(100_000)], "outputs": [{"name": "b"}]}, "too many fields"),
    ({"inputs": [{"name": "a"}], "outputs": [{"name": "b"}], "description": "\ud800"}, "lone surrogate"),
    ({"name": "1", "inputs": [{"name": "a"}], "outputs": [{"name": "b"}]}, "not a name"),
    ({"name": 1, "inputs": [{"name": "a"}], "outputs": [{"name": "b"}]}, "must be a string"),
]


@pytest.mark.parametrize(("spec", "words"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_signature_is_refused_with_the_place_and_what_is_expected(spec: Any, words: str) -> None:
    with pytest.raises(SignatureError) as caught:
        parse_signature(spec)
    assert words in f"{caught.value.message} {caught.value.expected}"
    assert caught.value.path
    assert caught.value.expected
    assert len(caught.value.message) < 400


@pytest.mark.parametrize("name", sorted(sig._RESERVED))
def test_names_of_dspys_own_are_refused_on_both_sides(name: str) -> None:
    for spec in (f"{name} -> b", f"a -> {name}"):
        with pytest.raises(SignatureError, match="reserved"):
            parse_signature(spec)


@pytest.mark.parametrize("name", sorted(sig._RESERVED_INPUTS - sig._RESERVED))
def test_names_that_would_steer_the_call_are_refused_as_inputs_only(name: str) -> None:
    with pytest.raises(SignatureError, match="reserved"):
        parse_signature(f"{name} -> b")
    with pytest.raises(SignatureError, match="reserved"):
        infer_signature({name: 1})
    assert parse_signature(f"a -> {name}").outputs[0].name == name


def test_no_mutation_of_a_signature_raises_anything_but_a_signature_error() -> None:
    random = Random(4)
    alphabet = "abzAZ09_ ,:[]|'\"\\->\n\té\u2028\x00.()" + "list[dict[str,Optional[Literal["
    good = "question, context: list[str] -> answer: Literal['a', 'b'], n: dict[str, Optional[int]]"
    read = 0
    for _ in range(3000):
        text = list(good)
        for _ in range(random.randrange(1, 5)):
            at = random.randrange(len(text))
            text[at : at + random.randrange(0, 3)] = random.choices(alphabet, k=random.randrange(0, 3))
        try:
            found = parse_signature("".join(text))
        except SignatureError:
            continue
        read += 1
        assert parse_signature(found.to_map()) == found
    assert read > 50


def test_types_of_any_text_are_read_or_refused_in_linear_time() -> None:
    for text in ("list[" * 3000, "'" * 16_000, "Literal['" + "\\" * 16_000, "str|None" * 2000, "[" * 16_000, "Literal[" + "1," * 8000):
        with pytest.raises(SignatureError):
            parse_type(text)
    many = parse_type("Literal[" + ", ".join(f"'v{i}'" for i in range(1000)) + "]")
    assert len(many.args) == 1000


def test_nothing_is_imported_or_evaluated() -> None:
    before = set(sys.modules)
    for spec in ("a: antigravity -> b", "a: this.s -> b", "a: xml.dom.minidom.Node -> b"):
        with pytest.raises(SignatureError, match="unknown type"):
            parse_signature(spec)
    assert parse_signature("a: dspy.History -> b").has_history == "a"
    assert set(sys.modules) - before == set()


def test_inference_takes_names_and_types_from_the_arguments() -> None:
    found = infer_signature({"text": "x", "n": 1, "f": 1.5, "b": True, "l": ["a"], "d": {}, "none": None})
    assert [(f.name, f.type.text()) for f in found.inputs] == [
        ("text", "str"),
        ("n", "int"),
        ("f", "float"),
        ("b", "bool"),
        ("l", "list[any]"),
        ("d", "dict[str, any]"),
        ("none", "any"),
    ]
    assert [(f.name, f.type.kind) for f in found.outputs] == [("answer", "str")]
    assert [f.name for f in infer_signature({"q": ""}, ["summary", "title"]).outputs] == ["summary", "title"]
    assert infer_signature({"q": "other text"}) is infer_signature({"q": "text"})


@pytest.mark.parametrize(
    ("args", "outputs"),
    [
        ({}, None),
        ({"a b": 1}, None),
        ({"answer": 1}, None),
        ({"q": 1}, []),
        ({"q": 1}, "answer"),
        ({"q": 1}, [1]),
        ({"q": 1}, ["Q"]),
        ({1: 2}, None),
    ],
)
def test_inference_refuses_what_cannot_be_a_signature(args: Any, outputs: Any) -> None:
    with pytest.raises(SignatureError):
        infer_signature(args, outputs)


def test_all_that_is_wrong_with_inputs_is_said_at_once_and_no_value_is_repeated() -> None:
    found = parse_signature("question, n: int, tags: list[str], mood: Literal['good', 'bad'] -> answer")
    with pytest.raises(InputError) as caught:
        check_inputs(found, {"n": "secret", "tags": ["ok", 5], "mood": "secret", "other": "secret"})
    assert caught.value.message == (
        "unknown input 'other'; missing input 'question'; input n must be integer, not string; "
        "input tags[1] must be string, not integer; input mood must be one of 'good', 'bad'"
    )
    assert caught.value.expected == "question: str, n: int, tags: list[str], mood: Literal['good', 'bad']"
    many = parse_signature(", ".join(f"f{i}" for i in range(60)) + " -> a")
    with pytest.raises(InputError, match="and 52 more"):
        check_inputs(many, {})


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("int", [0, -(2**63), 2**64 - 1], [True, 1.0, "1", None, 2**64]),
        ("float", [0, 1.5, -3], [True, "1", None, math.inf, math.nan, 10**400]),
        ("bool", [True, False], [0, 1, "True", None]),
        ("str", ["", "é"], [1, None, b"x", "\ud800"]),
        ("any", [None, 1, [{"a": [None]}]], [b"x", {1: 2}, {"a": 1, "A": 2}, object(), math.nan, "\udfff", [2**64]]),
        ("dict[str, int]", [{}, {"a b": 1}], [{"a": "x"}, {1: 1}, [], {"k": 1, "K": 2}]),
        ("Literal[1, 'a']", [1, "a"], [True, 1.0, "1", None, ["a"]]),
        ("Optional[int]", [None, 1], ["x"]),
    ],
)
def test_values_are_checked_strictly(kind: str, good: list[Any], bad: list[Any]) -> None:
    found = parse_signature({"inputs": [{"name": "v", "type": kind}], "outputs": [{"name": "w", "type": kind}]})
    for value in good:
        assert check_inputs(found, {"v": value}) == {"v": value}
        assert check_outputs(found, {"w": value}) == {"w": value}
    for value in bad:
        with pytest.raises(InputError, match="input v"):
            check_inputs(found, {"v": value})
        with pytest.raises(OutputError, match="output w"):
            check_outputs(found, {"w": value})


def test_integers_become_floats_where_a_number_is_due() -> None:
    found = parse_signature("n: list[number] -> m: number")
    assert repr(check_inputs(found, {"n": [1, 2.5]})) == "{'n': [1.0, 2.5]}"
    assert repr(check_outputs(found, {"m": 3})) == "{'m': 3.0}"


def test_values_are_copied_and_never_changed() -> None:
    given = {"d": {"a": [1, {"b": None}]}, "l": [1]}
    before = copy.deepcopy(given)
    checked = check_inputs(parse_signature("d: any, l: list[number] -> x"), given)
    checked["d"]["a"].append(2)
    assert given == before


def test_a_deep_value_is_refused_and_does_not_recurse_for_ever() -> None:
    value: Any = 1
    for _ in range(5000):
        value = [value]
    with pytest.raises(InputError, match="nested too deep"):
        check_inputs(parse_signature("v: any -> x"), {"v": value})


def test_the_history_may_be_left_out_and_comes_in_two_forms() -> None:
    found = parse_signature("q, past: history -> a")
    assert found.has_history == "past"
    assert parse_signature("q, history -> a").has_history is None
    turns = [{"q": "1", "a": "2"}]
    assert check_inputs(found, {"q": "x"}) == {"q": "x"}
    assert check_inputs(found, {"q": "x", "past": None}) == {"q": "x"}
    assert check_inputs(found, {"q": "x", "past": turns}) == {"q": "x", "past": turns}
    assert check_inputs(found, {"q": "x", "past": {"messages": turns}}) == {"q": "x", "past": turns}
    for bad in ("text", [1], {"messages": 1}, {}):
        with pytest.raises(InputError, match="past"):
            check_inputs(found, {"q": "x", "past": bad})


def test_inputs_that_are_no_map_are_refused() -> None:
    with pytest.raises(InputError, match="must be a map"):
        check_inputs(parse_signature("q -> a"), ["q"])  # type: ignore[arg-type]


def test_a_module_must_be_known_and_leave_the_fields_alone() -> None:
    found = parse_signature("q -> reasoning")
    check_module(found, "predict")
    for module in ("chain_of_thought", "react"):
        with pytest.raises(SignatureError, match="reasoning"):
            check_module(found, module)
    with pytest.raises(SignatureError, match="unknown module"):
        check_module(found, "program_of_thought")
