"""The locks pin every package by hash, hold nothing that must not run, and name no registry."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

LOCKS = Path(__file__).parent.parent / "requirements"
NAMES = ("worker.txt", "litellm.txt", "dev.txt", "programs.txt", "model.txt", "clients.txt")


def pins(name: str) -> dict[str, str]:
    found = {}
    for entry in re.split(r"\n(?=\S)", (LOCKS / name).read_text()):
        match = re.match(r"([a-z0-9-]+)==(\S+)", entry)
        assert match, entry
        assert re.findall(r"--hash=sha256:[0-9a-f]{64}(?= |$)", entry, re.M), entry
        found[match[1]] = match[2]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_lock_names_no_registry_and_no_path(name: str) -> None:
    text = (LOCKS / name).read_text()
    for word in ("://", "--index", "--extra-index", "--find-links", "--trusted", "/"):
        assert word not in text
    assert pins(name)


def test_the_slim_set_has_dspy_and_neither_litellm_nor_openai() -> None:
    worker = pins("worker.txt")
    assert worker["dspy"] == "3.4.1"
    assert {"jiter", "msgspec"} <= worker.keys()
    assert not {"litellm", "openai", "aiohttp", "httpx", "boto3"} & worker.keys()


def test_locks_agree_and_no_lock_has_a_bad_version() -> None:
    worker, litellm, dev, programs, _, clients = (pins(name) for name in NAMES)
    assert worker.items() <= litellm.items()
    for one, other in ((worker, dev), (worker, programs), (dev, programs)):
        for name in one.keys() & other.keys():
            assert one[name] == other[name]
    assert litellm["litellm"] not in ("1.82.7", "1.82.8", "1.107.0")
    assert {"pytest", "ruff", "mypy", "nats-py"} <= dev.keys()
    assert {"numpy", "optuna"} <= programs.keys()
    assert {"openai", "mcp"} <= clients.keys()
    assert not {"numpy", "optuna"} & worker.keys(), "a worker's own environment grows by 100 MB"


def test_the_engine_refuses_the_same_versions_that_the_lock_excludes() -> None:
    from dspex_worker.engines.dspy_engine.engine import DSPY_VERSION
    from dspex_worker.engines.dspy_engine.models.lm import DENIED_LITELLM

    text = (LOCKS / "litellm.in").read_text()
    assert set(re.findall(r"!=([\d.]+)", text)) == DENIED_LITELLM
    assert pins("worker.txt")["dspy"] == DSPY_VERSION
