"""A language model server for tests: OpenAI's, Anthropic's and Gemini's endpoints on one local port, told what to do.

    async with FakeLM() as server:
        server.script = [Reply(status=429, headers={"Retry-After": "2"}), Reply({"answer": "hi"})]

It runs on the loop of the test, so `Reply.hold` (an asyncio.Event) is all it takes to keep an answer back.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
_FIELD = re.compile(r"`\[\[ ## (\w+) ## \]\]`(?: \(must be formatted as a valid Python ([^)]*)\))?")
_SAMPLES = {"int": "7", "float": "1.5", "bool": "True", "list[str]": '["a", "b"]'}


@dataclass
class Request:
    """What came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def prompt(self) -> str:
        """All messages in one text."""
        return json.dumps(self.body, ensure_ascii=False)


@dataclass
class Reply:
    """What goes out. outputs: fields in DSPy's chat form; text: the answer as it is; neither: made up from the request."""

    outputs: dict[str, Any] | None = None
    text: str | None = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    error: dict[str, Any] | None = None
    body: bytes | None = None
    hold: asyncio.Event | None = None
    cut: str = ""  # accept: no answer at all; head: half of the head; body: half of the body; stream: after some chunks
    finish: str | None = "stop"
    usage: dict[str, Any] | None = field(default_factory=lambda: dict(USAGE))
    step: int = 5  # characters of a streamed chunk
    pause: asyncio.Event | None = None  # waited for in the middle of a stream


def chat_text(outputs: dict[str, Any]) -> str:
    """Outputs in the form that DSPy's chat adapter reads."""
    parts = [f"[[ ## {k} ## ]]\n{v if isinstance(v, str) else json.dumps(v)}" for k, v in outputs.items()]
    return "\n\n".join([*parts, "[[ ## completed ## ]]\n"])


def last_message(body: dict[str, Any]) -> str:
    """What the user said last."""
    content = body["messages"][-1]["content"] if "messages" in body else ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def made_up(prompt: str) -> dict[str, Any]:
    """An answer to what the last message asks for; text outputs are `echo of <first input>`."""
    asked = prompt.rsplit("Respond with", 1)[-1].split("and then ending")[0]
    first = re.search(r"\[\[ ## \w+ ## \]\]\n(.*?)(?:\n\n|$)", prompt, re.S)
    said = first.group(1) if first else ""
    return {name: _SAMPLES.get(kind, f"echo of {said}") for name, kind in _FIELD.findall(asked)}


class FakeLM:
    """The server. script: replies in order, or a function of the request; when it is used up, answers are made up."""

    def __init__(self) -> None:
        self.script: list[Reply] | Callable[[Request], Reply] = []
        self.requests: list[Request] = []
        self.connections = 0
        self.open = 0
        self.closed_early = asyncio.Event()
        self.arrived = asyncio.Event()
        self.left = threading.Semaphore(0)  # counts the clients that went away without their answer
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def __aenter__(self) -> FakeLM:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def wait_for_requests(self, count: int) -> None:
        """Waits until that many requests have come in."""
        while len(self.requests) < count:
            self.arrived.clear()
            await self.arrived.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            self._tasks.discard(task)

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ", 2)
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
        raw = await reader.readexactly(int(headers.get("content-length", "0")))
        request = Request(method, path, headers, json.loads(raw) if raw else {})
        self.requests.append(request)
        self.arrived.set()
        reply = self._reply(request)
        if reply.hold is not None and not await self._held(reader, reply.hold):
            self._note_left()
            return False
        if reply.cut == "accept":
            return False
        return await self._answer(reader, writer, request, reply)

    def _reply(self, request: Request) -> Reply:
        if callable(self.script):
            return self.script(request)
        return self.script.pop(0) if self.script else Reply()

    async def _held(self, reader: asyncio.StreamReader, hold: asyncio.Event) -> bool:
        """Waits for the event; False when the client went away first."""
        gone, go = asyncio.ensure_future(reader.read(1)), asyncio.ensure_future(hold.wait())
        try:
            await asyncio.wait([gone, go], return_when=asyncio.FIRST_COMPLETED)
            return not gone.done()
        finally:
            gone.cancel()
            go.cancel()
            await asyncio.gather(gone, go, return_exceptions=True)

    def _note_left(self) -> None:
        self.closed_early.set()
        self.left.release()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Request, reply: Reply) -> bool:
        if reply.status >= 400 or reply.body is not None:
            body = reply.body if reply.body is not None else json.dumps({"error": reply.error or {"message": "no", "type": "t"}}).encode()
            return await self._send(writer, reply, body, "application/json")
        text = reply.text
        if text is None:
            text = chat_text(reply.outputs if reply.outputs is not None else made_up(last_message(request.body)))
        if request.body.get("stream"):
            return await self._stream(reader, writer, reply, text)
        return await self._send(writer, reply, json.dumps(self._envelope(request, reply, text)).encode(), "application/json")

    def _envelope(self, request: Request, reply: Reply, text: str) -> dict[str, Any]:
        if request.path.endswith("/messages"):
            usage = {"input_tokens": 3, "output_tokens": 4}
            return {
                "id": "m",
                "type": "message",
                "role": "assistant",
                "model": "x",
                "content": [{"type": "text", "text": text}],
                "stop_reason": "end_turn",
                "usage": usage,
            }
        if ":generateContent" in request.path:
            usage = {"promptTokenCount": 3, "candidatesTokenCount": 4, "totalTokenCount": 7}
            return {
                "candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP"}],
                "usageMetadata": usage,
            }
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reply.finish}
        envelope: dict[str, Any] = {"id": "c", "model": request.body.get("model"), "choices": [choice]}
        if reply.usage is not None:
            envelope["usage"] = reply.usage
        return envelope

    async def _send(self, writer: asyncio.StreamWriter, reply: Reply, body: bytes, kind: str) -> bool:
        more = "".join(f"{k}: {v}\r\n" for k, v in reply.headers.items())
        head = f"HTTP/1.1 {reply.status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode()
        if reply.cut == "head":
            writer.write(head[:9])
        elif reply.cut == "body":
            writer.write(head + body[: len(body) // 2])
        else:
            writer.write(head + body)
        await writer.drain()
        return not reply.cut

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, reply: Reply, text: str) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        pieces = [text[i : i + reply.step] for i in range(0, len(text), reply.step)]
        for i, piece in enumerate(pieces):
            if reply.cut == "stream" and i > len(pieces) * 2 // 3:
                return False
            if reply.pause is not None and i == len(pieces) // 2 and not await self._held(reader, reply.pause):
                self._note_left()
                return False
            self._event(writer, {"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]})
            await writer.drain()
        if reply.finish is not None:
            self._event(writer, {"choices": [{"index": 0, "delta": {}, "finish_reason": reply.finish}]})
            if reply.usage is not None:
                self._event(writer, {"choices": [], "usage": reply.usage})
            writer.write(b"data: [DONE]\n\n")
        await writer.drain()
        return False

    def _event(self, writer: asyncio.StreamWriter, data: dict[str, Any]) -> None:
        writer.write(b"data: " + json.dumps(data).encode() + b"\n\n")


@contextmanager
def in_thread() -> Iterator[FakeLM]:
    """A server on a loop of its own, for tests that block. Set its script before the requests come."""
    ready = threading.Event()
    running: list[tuple[FakeLM, asyncio.AbstractEventLoop]] = []
    stop = asyncio.Event()

    async def serve() -> None:
        async with FakeLM() as server:
            running.append((server, asyncio.get_running_loop()))
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    ready.wait()
    server, loop = running[0]
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
