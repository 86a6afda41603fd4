"""The codes that a worker gives to a failure stand in the contract."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from pathlib import Path

from dspex_worker.errors import CATEGORIES

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "contract" / "commands.md").read_text("utf-8")


def codes() -> Iterator[tuple[str, str]]:
    """Every category that stands beside a code in the runtime's source: in a call, or in a table."""
    for path in sorted((ROOT / "python" / "dspex_worker").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            parts = node.args if isinstance(node, ast.Call) else node.elts if isinstance(node, ast.Tuple) else []
            if all(isinstance(part, ast.Constant) for part in parts) and not isinstance(node, ast.Call):
                continue  # a list of names
            texts = [part.value if isinstance(part, ast.Constant) else None for part in parts]
            for category, code in itertools.pairwise(texts):
                if category in CATEGORIES and isinstance(code, str) and code not in CATEGORIES:
                    yield category, code


def test_every_code_of_a_worker_is_in_the_contract() -> None:
    found = set(codes())
    assert ("python", "bad_input") in found
    assert ("connection", "lm_connection") in found
    for category, code in found:
        row = f"| `{code}` | {category} |"
        assert row in PAGE or (category in ("initialization", "session", "communication") and f"`{code}`" in PAGE), row
