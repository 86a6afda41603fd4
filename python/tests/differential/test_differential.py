"""Each case does the same in plain DSPy and in a worker: what the model was asked, the result, its usage, and the kind of failure."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dspex_worker.engines.dspy_engine.patches.fast import VARIABLE
from dspex_worker.protocol.frames import FrameType
from tests.client import Failed, WorkerProcess
from tests.differential import MODULES
from tests.differential.differences import ROWS, page
from tests.differential.model import answer
from tests.fake_lm import FakeLM, in_thread

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk-test-0123456789abcdef"


def cases() -> dict[str, Any]:
    """The cases. Their modules register programs, which is of no matter in the process of the tests."""
    import importlib

    for module in MODULES:
        importlib.import_module(module)
    from tests.differential.case import CASES

    return CASES


CASES = cases()


def _in_worker(base: str, side: str, env: dict[str, str]) -> dict[str, dict[str, Any]]:
    """What came of every case in a worker; its requests have the side in their path."""
    found_of: dict[str, dict[str, Any]] = {}
    with WorkerProcess(env=env, engine="dspy", imports=list(MODULES), slots=16) as worker:
        worker.ready()
        for name, entry in CASES.items():
            profile = {"provider": "openai", "model": "echo", "api_base": f"{base}/{side}/{name}/v1", "api_key": KEY}
            worker.send(FrameType.LM, 0, [name, profile])
            args = {"program_id": name, "inputs": dict(entry.inputs)}
            try:
                found = worker.call("execute_program", args, lm=name, options={"stream": True} if entry.stream else {})
                found_of[name] = {"result": found.value["outputs"], "usage": found.meta.get("usage", {}), "chunks": found.chunks}
            except Failed as error:
                found_of[name] = {
                    "failure": error.detail.get("python_type", error.code),
                    "usage": error.detail.get("usage", {}),
                    "error": error,
                }
    return found_of


class Both:
    """What came of every case, and what the model was asked in it."""

    def __init__(self, server: FakeLM) -> None:
        server.script = answer
        base = server.url.removesuffix("/v1")
        command = [sys.executable, "-m", "tests.differential.plain", base]
        output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=600).stdout
        self.plain = {found["case"]: found for found in map(json.loads, output.splitlines())}
        self.worker = _in_worker(base, "worker", {})
        self.slow = _in_worker(base, "slow", {VARIABLE: "none"})
        self.asked: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        for request in server.requests:
            _, side, name, _ = request.path.split("/", 3)
            self.asked[side, name].append(request.body)


@pytest.fixture(scope="module")
def both() -> Iterator[Both]:
    with in_thread() as server:
        yield Both(server)


def _differences(both: Both, name: str) -> list[str]:
    entry, plain, worker = CASES[name], both.plain[name], both.worker[name]
    found = []
    asked, asked_there = ([json.dumps(_body(body), sort_keys=True) for body in both.asked[side, name]] for side in ("plain", "worker"))
    if entry.concurrent:
        asked, asked_there = sorted(asked), sorted(asked_there)
    if asked != asked_there:
        found.append(f"the model was asked\n  {asked}\nand in the worker\n  {asked_there}")
    if plain.get("result") != worker.get("result"):
        found.append(f"result {plain.get('result')!r}, in the worker {worker.get('result')!r}")
    if plain.get("failure") != worker.get("failure"):
        found.append(f"failure {plain.get('failure')}, in the worker {worker.get('failure')}: {worker.get('error')}")
    tokens = sum(counts.get("total_tokens", 0) for counts in worker["usage"].values())
    answered = sum("please fail with" not in json.dumps(body) for body in both.asked["worker", name])
    if tokens != 7 * answered and not entry.differs.startswith("usage"):
        found.append(f"{answered} answers of 7 tokens each were paid for, usage has {tokens}")
    if entry.stream:
        joined = _streamed(worker)
        if joined != worker["result"]:
            found.append(f"streamed {joined}, result {worker['result']}")
    return found


def _streamed(worker: dict[str, Any]) -> dict[str, str]:
    joined: dict[str, str] = defaultdict(str)
    for chunk in worker.get("chunks", ()):
        joined[chunk[1]] += chunk[2]
    return dict(joined)


def _body(body: dict[str, Any]) -> dict[str, Any]:
    # Streamed or not is what the caller asks for, not the program.
    return {name: value for name, value in body.items() if name not in ("stream", "stream_options")}


@pytest.mark.parametrize("name", CASES)
def test_a_program_does_the_same_in_a_worker(both: Both, name: str) -> None:
    found = _differences(both, name)
    row = ROWS.get(CASES[name].differs)
    if row is not None and row.cases:
        assert found, f"{name} does not differ any more: {row.what}"
    else:
        assert not found, "\n".join(found)


@pytest.mark.parametrize("name", CASES)
def test_a_program_does_the_same_without_the_fast_paths(both: Both, name: str) -> None:
    entry, fast, slow = CASES[name], both.worker[name], both.slow[name]
    asked, asked_slowly = ([json.dumps(body) for body in both.asked[side, name]] for side in ("worker", "slow"))
    if entry.concurrent:
        asked, asked_slowly = sorted(asked), sorted(asked_slowly)
    assert asked == asked_slowly
    assert (fast.get("result"), fast.get("failure"), fast["usage"]) == (slow.get("result"), slow.get("failure"), slow["usage"])
    assert str(fast.get("error")) == str(slow.get("error"))
    assert _streamed(fast) == _streamed(slow)


def test_no_program_fails_for_want_of_a_package(both: Both) -> None:
    """On both sides it would do so, and nobody would see it. Without litellm is what the suite means to run."""
    missing = [
        name
        for name, found in both.plain.items()
        if found.get("failure") in ("ImportError", "ModuleNotFoundError") and CASES[name].differs != "litellm"
    ]
    assert not missing, f"{', '.join(missing)}: a package is missing, make setup installs python/requirements/programs.txt"


def test_there_are_programs_enough() -> None:
    assert len(CASES) >= 300


def test_the_page_of_differences_is_made_from_the_table() -> None:
    assert (ROOT.parent / "docs" / "differences.md").read_text("utf-8") == page()
    unknown = {entry.differs for entry in CASES.values() if entry.differs} - ROWS.keys()
    assert not unknown, f"cases name rows that are not there: {unknown}"
