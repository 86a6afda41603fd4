"""Imports the operator's modules, and reports at the start what would be a surprise later.

A module that cannot be imported ends the start; so does one that another hides, and one that defines DSPy modules of which none
becomes a program. What may be meant so is a warning.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import logging
import os
import site
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dspex_worker.errors import WorkerError, bounded, frames_of
from dspex_worker.guard import class_name, text_of
from dspex_worker.registry import UserProgram, registered

__all__ = ["add_sites", "build", "load_modules", "refuse_hidden"]

NAMED = 8  # names in a message

_log = logging.getLogger("dspex.worker")


def add_sites(directories: Sequence[str]) -> None:
    """Takes the packages of these site directories along, as Python does: with their .pth files, behind all that is there."""
    for directory in directories:
        try:
            site.addsitedir(directory, set(sys.path))
        except OSError as error:
            _log.warning("the packages in %s cannot be read: %s", directory, error.strerror)
            continue
        environment = os.path.dirname(os.path.dirname(os.path.dirname(directory)))  # of DIR/lib/python3.x/site-packages
        python = os.path.join(environment, "bin", "python")
        if os.path.isfile(python) and os.path.isfile(os.path.join(environment, "pyvenv.cfg")):
            _start_programs_with(python)


def _start_programs_with(python: str) -> None:
    """Programs that modules start with sys.executable find the modules' packages, as this process does."""
    sys.executable = python
    spawn = sys.modules.get("multiprocessing.spawn")
    if spawn is not None:
        spawn.set_executable(python)


def refuse_hidden(names: Sequence[str], directories: Sequence[str]) -> None:
    """Refuses a module that another one hides, such as a json.py; warns of those beside it, which a module may mean to import."""
    named = {name.partition(".")[0] for name in names}
    for directory in directories:
        before = sys.path[: sys.path.index(directory)] if directory in sys.path else sys.path
        for name in sorted(_modules_in(directory)):
            first = _found(name, before)
            if first is None:
                continue
            text = f"{name} in {directory} is hidden: `import {name}` finds {first}"
            if name not in named:
                _log.warning("%s; rename it if a module of yours imports it", text)
                continue
            raise WorkerError("initialization", "import_failed", text, hint="rename the module: Python's and dspex's own come first")


def _modules_in(directory: str) -> set[str]:
    try:
        entries = list(os.scandir(directory))
    except OSError:
        return set()
    found = set()
    for entry in entries:
        path = Path(entry.path)
        if path.suffix == ".py" or (path / "__init__.py").is_file():
            found.add(path.stem)
    return {name for name in found if name.isidentifier() and name != "__init__"}


def _found(name: str, places: list[str]) -> str | None:
    """What an import finds in these places, or among what is in Python itself."""
    if name in sys.builtin_module_names:
        return "Python's own, which is built in"
    found = importlib.machinery.PathFinder.find_spec(name, places)
    if found is None or found.origin is None:  # a folder without __init__.py hides nothing
        return None
    return f"Python's own, {found.origin}" if name in sys.stdlib_module_names else found.origin


def load_modules(names: Sequence[str], settings: Callable[[], Any] = lambda: None) -> None:
    """Imports the modules, so that their decorators run. settings: a picture of what they may configure instead."""
    for name in names:
        before = _registered(), settings()
        try:
            module = importlib.import_module(name)
        except Exception as error:
            raise WorkerError(
                "initialization",
                "import_failed",
                f"import of {name} failed: {class_name(error)}: {bounded(text_of(error))}",
                hint=_import_hint(name, error),
                python_type=class_name(error),
                traceback=frames_of(error),
            ) from error
        if (_registered(), settings()) == before and name not in _origins():
            _tell_empty(name, module)


def _registered() -> tuple[int, ...]:
    return len(registered.commands), len(registered.programs), len(registered.after_fork)


def _origins() -> set[str]:
    """The modules that what is registered comes from: another module may have imported this one first."""
    found = [entry.function for entry in registered.commands] + [entry.target for entry in registered.programs]
    return {str(getattr(target, "__module__", "")) for target in found}


def _tell_empty(name: str, module: Any) -> None:
    programs, functions = [], []
    for key, value in vars(module).items():
        if key.startswith("_"):
            continue
        kind = value if isinstance(value, type) else type(value)
        if _is_dspy_module(kind) and (kind is not value or value.__module__ == name):
            programs.append(key)
        elif callable(value) and getattr(value, "__module__", None) == name and not isinstance(value, type):
            functions.append(key)
    if programs:
        raise WorkerError(
            "initialization",
            "import_failed",
            f"{name} makes no program: none of its DSPy modules ({', '.join(programs[:NAMED])}) has a decorator",
            hint=f'from dspex_worker import program, then @program("an_id") above the class, or program("an_id")({programs[0]}) below',
        )
    seen = f"; its functions {', '.join(functions[:NAMED])} need @command (from dspex_worker import command)" if functions else ""
    _log.warning("%s adds no command, no program and no setting%s", name, seen)


def _is_dspy_module(kind: type) -> bool:
    return any(base.__module__.partition(".")[0] == "dspy" and base.__name__ == "Module" for base in kind.__mro__)


def _import_hint(name: str, error: Exception) -> str:
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return "the module is imported when a worker starts: it must not fail then"
    if error.name.partition(".")[0] == name.partition(".")[0]:
        return "modules are looked for in the directory where the host was started, and in the virtual environment of its --python"
    if error.name == "dspy":
        return "the module needs DSPy, which the engine stub does not bring: start with --engine dspy"
    return f"dspex env add {error.name.partition('.')[0]}; or name the interpreter of a virtual environment that has it with --python"


def build(entry: UserProgram) -> Any:
    """The module object of a program; a class is called without arguments. Refuses what no job could run."""
    module = entry.target() if isinstance(entry.target, type) else entry.target
    if not any(callable(getattr(module, name, None)) for name in ("forward", "aforward")):
        if _is_dspy_module(type(module)):
            raise TypeError(f"{class_name(module)} has no forward and no aforward")
        if not callable(module):
            raise TypeError(f"{class_name(module)} is not a DSPy module, has no forward and cannot be called")
    return module
