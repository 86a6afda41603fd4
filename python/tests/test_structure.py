"""What the modules of the worker are like as a structure: `docs/adr/0068-files-refer-downwards.md`."""

from __future__ import annotations

import ast
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in (ROOT / "dspex_worker").rglob("*.py")
}
MOST = 20  # modules of a package
# The public package takes names from modules that need nothing but its version: these two import it in examples and for that.
FACE = "dspex_worker"


def imports(path: Path) -> set[str]:
    """The modules of the worker that one imports, for types or inside of functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {name for a in node.names if (name := f"{node.module}.{a.name}") in MODULES} or {node.module}
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
    return {name for name in found if name in MODULES and name != FACE}


def test_no_package_has_more_modules_than_a_bound() -> None:
    for directory, number in Counter(path.parent for path in MODULES.values()).items():
        assert number <= MOST, f"{directory.relative_to(ROOT)} has {number} modules: split it by what belongs together"


def test_no_module_imports_one_that_imports_it() -> None:
    graph = {name: imports(path) for name, path in MODULES.items() if name != FACE}
    assert graph["dspex_worker.runtime"] > {"dspex_worker.worker", "dspex_worker.protocol.frames"}
    TopologicalSorter(graph).prepare()  # a CycleError names the circle
