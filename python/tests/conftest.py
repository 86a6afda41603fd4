"""Fixtures of the runtime's tests: workers that many tests share, because none of these changes a worker for the next."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.client import WorkerProcess


@pytest.fixture(scope="module")
def worker() -> Iterator[WorkerProcess]:
    """A ready worker with the stub engine and the sample commands."""
    with WorkerProcess(imports=["sample_commands"]) as process:
        process.ready()
        yield process


@pytest.fixture
def session(request: pytest.FixtureRequest) -> str:
    """A session of this test alone."""
    return "".join(char if char.isalnum() else "_" for char in request.node.name)[:64]
