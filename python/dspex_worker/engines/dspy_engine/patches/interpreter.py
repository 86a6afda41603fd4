"""dspy.PythonInterpreter, on which ProgramOfThought, CodeAct and RLM run code: what `dspex env add deno` has brought."""

from __future__ import annotations

import functools
import importlib
import os
from typing import Any

__all__ = ["install"]

# DSPy's own module, which it does not export.
_module: Any = importlib.import_module("dspy.primitives.python_interpreter")

_SCRIPT = "runner.js"  # beside Deno's cache, as internal/pyenv/code.go writes it


def install() -> None:
    """Has the interpreter run the script that was made with its environment, if there is one, and its advice name our command."""
    script = os.path.join(os.environ.get("DENO_DIR", ""), _SCRIPT)
    if os.path.isfile(script):
        _module.PythonInterpreter._get_runner_path = lambda self: script
    spawn = _module.PythonInterpreter._spawn_process

    @functools.wraps(spawn)
    def spawned(self: Any) -> Any:
        try:
            return spawn(self)
        except _module.CodeInterpreterError as error:
            if "Deno" in str(error) and not os.path.isfile(script):
                raise _module.CodeInterpreterError(f"{error}\nFor workers of dspex: dspex env add deno") from error
            raise

    _module.PythonInterpreter._spawn_process = spawned
