"""What is reported at the start of modules that would surprise later."""

from __future__ import annotations

import logging
import multiprocessing.spawn
import sys
from pathlib import Path
from typing import Any

import dspy
import pytest

from dspex_worker import WorkerError, imports
from dspex_worker.engines.dspy_engine import DSPyEngine
from dspex_worker.registry import UserProgram

QA = "import dspy\nclass QA(dspy.Module):\n    def forward(self, question: str): ...\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of modules, behind all others as in a worker."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setattr("dspex_worker.registry.registered.programs", [])
    return tmp_path


def write(place: Path, name: str, text: str) -> str:
    (place / f"{name}.py").write_text(text, "utf-8")
    return name


def test_a_module_whose_dspy_modules_have_no_decorator_is_refused(place: Path) -> None:
    with pytest.raises(WorkerError, match=r"undecorated makes no program: none of its DSPy modules \(QA\) has a decorator") as caught:
        imports.load_modules([write(place, "undecorated", QA)])
    assert (caught.value.category, caught.value.code) == ("initialization", "import_failed")
    assert "from dspex_worker import program" in (caught.value.hint or "")


def test_a_module_that_another_one_decorates_is_fine(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(place, "bare", QA)
    imports.load_modules([write(place, "decorates", "from bare import QA\nfrom dspex_worker import program\nprogram('qa')(QA)\n"), "bare"])
    assert not caplog.records


def test_a_module_that_adds_nothing_is_a_warning_and_one_that_configures_is_none(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine = DSPyEngine()
    write(place, "plain_functions", "def hello(name): ...\n")
    imports.load_modules(["plain_functions"], engine.settings)
    assert ["plain_functions adds no command" in record.getMessage() for record in caplog.records] == [True]
    assert "hello need @command" in caplog.text
    caplog.clear()
    try:
        imports.load_modules([write(place, "configures", "import dspy\ndspy.configure(callbacks=[object()])\n")], engine.settings)
    finally:
        dspy.configure(callbacks=[])
    assert not caplog.records


def test_a_module_that_python_hides_is_refused_and_one_beside_it_is_a_warning(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(place, "json", "")
    write(place, "mine", "")
    with caplog.at_level(logging.WARNING):
        imports.refuse_hidden(["mine"], [str(place)])
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [f"json in {place} is hidden"]
    with pytest.raises(WorkerError, match=r"json in .* is hidden: `import json` finds Python's own") as caught:
        imports.refuse_hidden(["json"], [str(place)])
    assert "rename" in (caught.value.hint or "")


def test_path_files_of_an_environment_are_followed(place: Path) -> None:
    (place / "site").mkdir()
    (place / "elsewhere").mkdir()
    (place / "site" / "mine.pth").write_text(f"{place / 'elsewhere'}\nimport sys; sys.seen_by_pth = True\n", "utf-8")
    imports.add_sites([str(place / "site")])
    assert sys.path[-1] == str(place / "elsewhere")
    assert vars(sys).pop("seen_by_pth")


def test_programs_that_modules_start_find_the_packages_of_their_environment(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/python/of/the/product")
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", "/python/of/the/product")
    site, python = place / "env" / "lib" / "python3" / "site-packages", place / "env" / "bin" / "python"
    for file in (site / "mine.py", python):
        file.parent.mkdir(parents=True)
        file.touch()
    imports.add_sites([str(site)])  # without pyvenv.cfg it is no environment
    assert sys.executable == "/python/of/the/product"
    (place / "env" / "pyvenv.cfg").touch()
    imports.add_sites([str(site)])
    assert sys.executable == str(python)
    assert multiprocessing.spawn.get_executable() in (str(python), str(python).encode())


class NoForward(dspy.Module):  # type: ignore[misc]
    """Has a method of another name."""

    def run(self, question: str) -> Any: ...


class NotCallable:
    """Is no module at all."""


@pytest.mark.parametrize(
    ("target", "said"),
    [(NoForward, "no forward and no aforward"), (NotCallable(), "is not a DSPy module, has no forward and cannot be called")],
)
def test_a_program_that_no_job_could_run_is_refused(target: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        imports.build(UserProgram("p", target))


def test_what_can_be_called_is_a_program(place: Path) -> None:
    assert imports.build(UserProgram("p", len)) is len
