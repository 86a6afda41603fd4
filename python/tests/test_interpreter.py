"""What runs code for dspy.PythonInterpreter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.primitives import python_interpreter

from dspex_worker.engines.dspy_engine.code_runner import rewritten
from dspex_worker.engines.dspy_engine.patches import interpreter

THEIRS = Path(python_interpreter.__file__).with_name("runner.js")


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> Any:
    """DSPy's class as it was before the test."""
    for name in ("_get_runner_path", "_spawn_process"):
        monkeypatch.setattr(dspy.PythonInterpreter, name, getattr(dspy.PythonInterpreter, name))


def test_the_script_fetches_nothing_but_pinned_packages_of_npm() -> None:
    script = rewritten(THEIRS.read_text("utf-8"))
    imports = [line for line in script.splitlines() if line.startswith("import ") and " from " in line]
    assert imports == ['import pyodideModule from "npm:pyodide@0.29.4/pyodide.js";']
    assert "async function* readLines(source)" in script


def test_a_script_that_is_not_known_is_refused() -> None:
    for script in ("", 'import { readLines } from "https://a.test/x";\nimport x from "https://b.test/y";\n'):
        with pytest.raises(ValueError, match="not the version of this release"):
            rewritten(script)


def test_the_interpreter_runs_the_script_that_its_environment_brings(
    untouched: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runner.js").write_text("", "utf-8")
    monkeypatch.setenv("DENO_DIR", str(tmp_path))
    interpreter.install()
    assert dspy.PythonInterpreter().deno_command[-3] == str(tmp_path / "runner.js")


def test_without_deno_dspys_advice_is_kept_and_ours_added(untouched: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("DENO_DIR", raising=False)
    monkeypatch.setattr(python_interpreter, "_find_deno_executable", lambda: "deno")
    interpreter.install()
    with pytest.raises(dspy.CodeInterpreterError, match=r'pip install "dspy\[deno\]"(.|\n)*dspex env add deno'):
        dspy.PythonInterpreter().execute("1+1")
