"""Which object of a program a job gets."""

from __future__ import annotations

import pytest

from dspex_worker import program
from dspex_worker.instances import Instances
from dspex_worker.registry import UserProgram
from tests.client import WorkerProcess


def test_all_jobs_share_an_object_unless_the_program_asks_for_one_for_each_session() -> None:
    with WorkerProcess(imports=["counting"]) as worker:
        worker.ready()

        def run(name: str, session: str | None) -> int:
            outputs = worker.value("execute_program", {"program_id": name, "inputs": {}}, session=session)["outputs"]
            return int(outputs["output"])

        assert [run("shared_count", session) for session in ("a", "b", None)] == [1, 2, 3]
        assert [run("own_count", session) for session in ("a", "b", "a", None, None)] == [1, 1, 2, 1, 1]
        for command, session in (("cleanup_session", "a"), ("reset_state", "b")):
            worker.value(command, session=session)
            assert run("own_count", session) == 1


def test_the_objects_of_sessions_are_bounded_and_go_with_their_session() -> None:
    kept = Instances(limit=2)
    entry = UserProgram("p", dict, per_session=True)
    objects = {name: kept.of(entry, name) for name in ("a", "b")}
    assert kept.of(entry, "a") is objects["a"]
    kept.of(entry, "c")
    assert kept.of(entry, "b") is not objects["b"]
    again = kept.of(entry, "b")
    kept.drop("b")
    assert kept.of(entry, "b") is not again


def test_only_a_class_can_be_made_for_each_session() -> None:
    with pytest.raises(TypeError, match="needs a class"):
        program("p", per_session=True)(object())
