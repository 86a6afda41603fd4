"""Inputs arrive in the types of their annotations, with the defaults of DSPy; what breaks a rule is refused with field and rule."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from dspex_worker.protocol.frames import FrameType
from tests.client import Failed, WorkerProcess
from tests.dspy_case import profile
from tests.fake_lm import FakeLM

GOOD: dict[str, Any] = {"person": {"name": "Al"}, "mood": "good", "day": "2025-07-15"}


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[WorkerProcess, FakeLM]]:
    server, started, stop = FakeLM(), threading.Event(), threading.Event()

    async def main() -> None:
        async with server:
            started.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    started.wait()
    with WorkerProcess(engine="dspy", imports=["typed_programs"], slots=8) as worker:
        worker.ready()
        worker.send(FrameType.LM, 0, ["lm", profile(server)])
        yield worker, server
    stop.set()
    thread.join()


def run(worker: WorkerProcess, program: str, inputs: dict[str, Any], **more: Any) -> Any:
    return worker.value("execute_program", {"program_id": program, "inputs": inputs}, lm="lm", **more)["outputs"]


def refused(worker: WorkerProcess, program: str, inputs: dict[str, Any]) -> Failed:
    return worker.failure("execute_program", {"program_id": program, "inputs": inputs}, lm="lm")


def test_values_become_what_the_annotations_say(served: tuple[WorkerProcess, FakeLM]) -> None:
    worker, _ = served
    found = run(worker, "typed", {**GOOD, "point": {"x": 1}, "people": [{"name": "Bo"}]})
    assert found == {"types": ["Person", "Mood", "date", "Point", "Person"], "name": "Al", "later": "2025-07-16"}
    assert worker.value("greet", {"person": {"name": "Al"}, "when": "2025-07-15T10:30:00Z"}) == "Al at 10:30"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"person": {"name": "Al", "age": -1}}, "person must be Person: age: Input should be greater than or equal to 0"),
        ({"person": {}}, "person must be Person: name: Field required"),
        ({"mood": "odd"}, "mood must be Mood: Input should be 'good' or 'bad'"),
        ({"day": "soon"}, "day must be date: Input should be a valid date"),
        ({"people": [{"name": 5}]}, "0.name: Input should be a valid string"),
    ],
)
def test_what_breaks_a_rule_is_refused_with_field_and_rule(served: tuple[WorkerProcess, FakeLM], wrong: dict[str, Any], said: str) -> None:
    error = refused(served[0], "typed", {**GOOD, **wrong})
    assert (error.code, error.detail["path"]) == ("bad_input", f"args.inputs.{next(iter(wrong))}")
    assert said in error.message


def test_defaults_of_input_fields_count(served: tuple[WorkerProcess, FakeLM]) -> None:
    worker, server = served
    run(worker, "translate", {"text": "x"})
    assert "[[ ## lang ## ]]\\nen" in server.requests[-1].prompt


@pytest.mark.parametrize("image", ["https://x.test/cat.png", "data:image/png;base64,AAAA", {"url": "https://x.test/cat.png"}])
def test_an_image_reaches_the_model_as_one(served: tuple[WorkerProcess, FakeLM], image: Any) -> None:
    worker, server = served
    run(worker, "caption", {"image": image})
    parts = server.requests[-1].body["messages"][-1]["content"]
    assert [part["image_url"]["url"] for part in parts if part["type"] == "image_url"] == [
        image if isinstance(image, str) else image["url"]
    ]
    run(worker, "captions", {"images": [image, image]})
    parts = server.requests[-1].body["messages"][-1]["content"]
    assert len([part for part in parts if part["type"] == "image_url"]) == 2


def test_no_file_of_the_worker_is_read_for_a_caller(served: tuple[WorkerProcess, FakeLM]) -> None:
    for image in ("/etc/passwd", {"url": "/etc/passwd"}, "file:///etc/passwd"):
        error = refused(served[0], "caption", {"image": image})
        assert error.code == "bad_input" and "root" not in error.message


def test_a_history_is_the_sessions_conversation(served: tuple[WorkerProcess, FakeLM]) -> None:
    worker, server = served
    run(worker, "chat", {"question": "My name is Ada"}, session="c1")
    run(worker, "chat", {"question": "What is my name?"}, session="c1")
    messages = server.requests[-1].body["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert "My name is Ada" in messages[1]["content"]
    assert run(worker, "remembers", {"question": "?"}, session="c1") == {"answer": "a2", "kind": "History"}
    assert run(worker, "remembers", {"question": "?"}, session="c1")["answer"] == "a3"


def test_a_history_may_be_given(served: tuple[WorkerProcess, FakeLM]) -> None:
    worker, server = served
    past = [{"question": "a", "answer": "b"}]
    for history in ({"messages": past}, past):
        run(worker, "chat", {"question": "x", "history": history})
        assert len(server.requests[-1].body["messages"]) == 4
        assert run(worker, "remembers", {"question": "?", "history": history})["answer"] == "a1"
    assert run(worker, "remembers", {"question": "?"})["answer"] == "a0"
    run(worker, "chat", {"question": "x"})
    assert len(server.requests[-1].body["messages"]) == 2
