"""What programs have learnt: read from a request, put into predictors, and pushed to all sessions of a worker."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import dspy
import pytest

from dspex_worker import WorkerError
from dspex_worker.engines import Program
from dspex_worker.engines.dspy_engine import DSPyEngine
from dspex_worker.learnt import MAX_BYTES, checked_learnt, read_learnt
from dspex_worker.signatures.signature import parse_signature
from tests.client import WorkerProcess
from tests.dspy_case import context, profile, scenario
from tests.fake_lm import FakeLM


def saved(module: Any, path: Path) -> dict[str, Any]:
    """What DSPy writes into a file."""
    module.save(str(path / "state.json"))
    found: dict[str, Any] = json.loads((path / "state.json").read_text("utf-8"))
    return found


def taught(module: Any) -> Any:
    """The module as an optimiser leaves it."""
    for predictor in module.predictors():
        predictor.signature = predictor.signature.with_instructions("Answer like a pirate.")
        predictor.demos = [dspy.Example(augmented=True, question="Who?", reasoning="Think.", answer="Arr")]
    return module


MODULES = [("predict", dspy.Predict), ("chain_of_thought", dspy.ChainOfThought)]


@pytest.mark.parametrize(("kind", "make"), MODULES, ids=[kind for kind, _ in MODULES])
@pytest.mark.parametrize("turns", [False, True])
def test_the_prompts_are_those_of_plain_dspy_that_has_loaded_the_file(kind: str, make: Any, turns: bool, tmp_path: Path) -> None:
    state = saved(taught(make("question -> answer")), tmp_path)
    history = [{"inputs": {"question": "Before?"}, "outputs": {"answer": "Yes"}}] if turns else []

    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        learnt = read_learnt(state, "args.state", "create_program")
        program = Program(parse_signature("question -> answer"), kind, learnt, "k")
        engine.check(program)
        await engine.run(program, {"question": "Why?"}, context(profile(server), history=history))
        plain = make("question -> answer")
        plain.load(str(tmp_path / "state.json"))
        if not turns:
            await engine.run_module(plain, {"question": "Why?"}, context(profile(server)))
            first, second = (request.body["messages"] for request in server.requests[-2:])
            assert first == second
        text = json.dumps(server.requests[-1].body["messages"])
        assert "Answer like a pirate." in text
        assert "Arr" in text

    scenario(steps)


def _with(change: Any) -> dict[str, Any]:
    predictor: dict[str, Any] = {"traces": [], "train": [], "demos": [{"question": "q", "answer": "a"}], "lm": None}
    predictor["signature"] = {"instructions": "i", "fields": [{"prefix": "Q:", "description": "q"}, {"prefix": "A:", "description": "a"}]}
    found = {"self": predictor, "metadata": {"dependency_versions": {}}}
    change(found)
    return found


BAD = [
    (lambda s: s["self"].update(aforward="x"), "unknown keys aforward", "args.state.self"),
    (lambda s: s["self"].update(config={"api_base": "http://x"}), "unknown keys config", "args.state.self"),
    (lambda s: s["self"].update(demos={}), "no list", "args.state.self.demos"),
    (lambda s: s["self"].update(demos=["x"]), "no map", "args.state.self.demos[0]"),
    (lambda s: s["self"]["signature"].pop("instructions"), "no text", "args.state.self.signature.instructions"),
    (lambda s: s["self"]["signature"].update(more=1), "unknown keys", "args.state.self.signature"),
    (lambda s: s["self"]["signature"]["fields"].append({"prefix": 1}), "no text", "args.state.self.signature.fields[2].prefix"),
    (lambda s: s.pop("self"), "0 predictors", "args.state"),
    (lambda s: s["self"].update(demos=[{"question": "x" * MAX_BYTES}]), "bytes", "args.state"),
]


@pytest.mark.parametrize(("change", "said", "at"), BAD, ids=[at for _, _, at in BAD])
def test_what_dspy_does_not_save_is_refused_with_its_place(change: Any, said: str, at: str) -> None:
    with pytest.raises(WorkerError, match=said) as caught:
        read_learnt(_with(change), "args.state", "create_program")
    assert (caught.value.code, caught.value.path) == ("bad_input", at)


def test_only_demos_and_instructions_are_taken() -> None:
    found = read_learnt(_with(lambda s: s["self"].update(lm={"model": "m", "api_base": "http://evil"})), "at", "c")
    assert found == {
        "self": {
            "demos": [{"question": "q", "answer": "a"}],
            "instructions": "i",
            "fields": [{"prefix": "Q:", "description": "q"}, {"prefix": "A:", "description": "a"}],
        }
    }
    assert checked_learnt(copy.deepcopy(found), "at", "c") == found


UNFIT = [
    ({"signature": "question -> answer", "program_type": "chain_of_thought"}, "of the predictors self"),
    ({"signature": "question -> answer, more"}, "has 2 fields"),
    ({"signature": "one -> two"}, "none of its fields, but answer, question"),
]


def test_a_program_with_a_state_lives_in_its_session_and_one_that_does_not_fit_is_refused() -> None:
    state = _with(lambda s: None)
    with WorkerProcess(engine="dspy") as worker:
        worker.ready()
        for args, said in UNFIT:
            error = worker.failure("create_program", {"id": "p", "state": state, **args}, session="s")
            assert (error.code, error.detail["path"]) == ("bad_input", "args.state")
            assert said in error.message
        for _ in range(2):
            assert worker.value("create_program", {"id": "p", "signature": "question -> answer", "state": state}, session="s") == "p"
        assert worker.failure("create_program", {"id": "p", "signature": "question -> answer"}, session="s").code == "program_exists"
        assert worker.value("get_program_info", {"program_id": "p"}, session="s")["extra"]["learnt"] == {"predictors": 1, "demos": 1}


def test_what_is_pushed_changes_a_program_of_the_modules_for_all_until_it_is_taken_back() -> None:
    with WorkerProcess(engine="dspy", imports=["dspy_programs"]) as worker:
        worker.ready()
        predictor = _with(lambda s: None)["self"]
        plan = {**predictor, "demos": [{"question": "q", "plan": "p"}]}
        answer = {**predictor, "demos": [{"plan": "p", "answer": "a"}]}
        error = worker.failure("push_program", {"id": "two_steps", "state": {"plan": plan}})
        assert "of the predictors plan" in error.message
        assert error.detail["expected"] == "the predictors answer, plan"
        result = worker.call("push_program", {"id": "two_steps", "state": {"plan": plan, "answer": answer}})
        assert result.value == {"program_id": "two_steps", "status": "pushed", "predictors": 2, "demos": 2}
        told = result.meta["program"]
        assert worker.value("get_program_info", {"program_id": "two_steps"})["extra"]["learnt"] is None

        worker.send(14, 0, [told["id"], 3, told["record"]])
        assert worker.value("get_program_info", {"program_id": "two_steps"})["extra"]["learnt"] == {
            "predictors": 2,
            "demos": 2,
            "version": 3,
        }
        record = copy.deepcopy(told["record"])
        record["learnt"].pop("plan")
        worker.send(14, 0, ["two_steps", 4, record])
        assert "does not fit" in worker.value("get_program_info", {"program_id": "two_steps"})["extra"]["learnt"]["error"]
        result = worker.call("withdraw_program", {"program_id": "two_steps"})
        assert result.meta["program"] == {"id": "two_steps", "record": None}
        worker.send(14, 0, ["two_steps", 5, None])
        assert worker.value("get_program_info", {"program_id": "two_steps"})["extra"]["learnt"] is None
        assert worker.failure("withdraw_program", {"program_id": "two_steps"}).code == "program_unknown"


def test_a_whole_program_is_pushed_with_its_signature() -> None:
    with WorkerProcess(engine="dspy") as worker:
        worker.ready()
        assert worker.failure("push_program", {"id": "qa", "state": _with(lambda s: None)}).detail["path"] == "args.signature"
        assert worker.failure("push_program", {"id": "qa", "signature": "a -> b"}, session="s").code == "bad_input"
        result = worker.call("push_program", {"id": "qa", "signature": "question -> answer", "state": _with(lambda s: None)})
        worker.send(14, 0, ["qa", 1, result.meta["program"]["record"]])
        for session in ("a", None):
            info = worker.value("get_program_info", {"program_id": "qa"}, session=session)
            assert (info["extra"]["kind"], info["program_type"], info["extra"]["learnt"]["version"]) == ("pushed", "predict", 1)
            assert [entry["id"] for entry in worker.value("list_programs", session=session)["programs"]] == ["qa"]
        assert worker.failure("create_program", {"id": "qa", "signature": "a -> b"}, session="a").code == "program_exists"
        assert worker.failure("delete_program", {"program_id": "qa"}, session="a").code == "bad_input"
        assert worker.failure("execute_program", {"program_id": "qa", "inputs": {"question": "?"}}).code == "lm_not_configured"
        worker.send(14, 0, ["qa", 2, {"v": 2}])
        assert worker.failure("get_program_info", {"program_id": "qa"}).code == "program_unknown"
