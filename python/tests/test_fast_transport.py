"""The transport for language models does what DSPy's does, on connections that stay open, through proxies, TLS and all that can break."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import gzip
import importlib
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from dspy.clients.engines import AsyncLM15Engine

from dspex_worker.engines.dspy_engine import DSPyEngine
from dspex_worker.engines.dspy_engine.models import outside, transport
from dspex_worker.engines.dspy_engine.patches import fast
from dspex_worker.system import sandbox
from tests.dspy_case import context, failure, profile, program, scenario
from tests.fake_lm import FakeLM, Reply

DSPYS: Any = importlib.import_module("dspy._vendor.lm15.transports").StdlibAsyncTransport
TransportRequest: Any = importlib.import_module("dspy._vendor.lm15.transports").TransportRequest
errors: Any = importlib.import_module("dspy._vendor.lm15.transports._exceptions")
CERTIFICATE = Path(__file__).with_name("localhost.pem")  # of nobody; its key is in the same file

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(autouse=True)
def as_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    fast.read()


@contextlib.asynccontextmanager
async def serving(handler: Handler, **more: Any) -> AsyncIterator[int]:
    """A server; the port. Connections that are open at the end are closed."""
    tasks: set[asyncio.Task[Any]] = set()

    async def held(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await handler(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(held, "127.0.0.1", 0, backlog=2048, **more)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def request_of(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    return head, await reader.readexactly(length)


def post(port: int, body: bytes = b'{"a":1}', scheme: str = "http", host: str = "127.0.0.1", **more: Any) -> Any:
    headers = [("Authorization", "Bearer sk-x"), ("Content-Type", "application/json")]
    return TransportRequest("POST", f"{scheme}://{host}:{port}/v1/chat", headers, body, **more)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await request_of(reader)
        writer.write(OK)


async def ask(one: Any, request: Any) -> tuple[int, bytes]:
    async with one.stream(request) as response:
        return response.status, await response.read()


ANSWERS: dict[str, list[bytes]] = {
    "a body of known length": [OK],
    "in two pieces": [OK[:30], OK[30:]],
    "byte by byte": [OK[i : i + 1] for i in range(len(OK))],
    "no body": [b"HTTP/1.1 204 No Content\r\n\r\n"],
    "an empty body": [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"],
    "chunks": [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"3\r\nabc\r\n", b"2;x=y\r\nde\r\n0\r\n\r\n"],
    "until the end": [b"HTTP/1.1 200 OK\r\n\r\nall of it", b" and more", b""],
    "compressed": [
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(gzip.compress(b"hello", mtime=0)),
        gzip.compress(b"hello", mtime=0),
    ],
    "compressed until the end": [b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n", gzip.compress(b"hello", mtime=0), b""],
    "compressed and cut": [b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n", gzip.compress(b"hello", mtime=0)[:9], b""],
    "another coding": [b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\nhi"],
    "a close": [b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi"],
    "HTTP/1.0": [b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi"],
    "an error": [b"HTTP/1.1 500 Broken\r\nRetry-After: 2\r\nContent-Length: 2\r\n\r\nno"],
    "no answer": [b""],
    "half of a head": [b"HTTP/1.1 200 OK\r\nConte", b""],
    "half of a body": [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi", b""],
    "half of a chunk": [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhi", b""],
    "no HTTP": [b"SSH-2.0-x\r\n\r\n"],
    "a bad status": [b"HTTP/1.1 abc OK\r\n\r\n"],
    "a bad length": [b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"],
    "a negative length": [b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"],
    "a bad header": [b"HTTP/1.1 200 OK\r\nnothing\r\n\r\n"],
    "a head without end": [b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 20_000],
    "a bad chunk": [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"],
    "a large body": [b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n", b"x" * 3_000_000],
}


async def outcome(one: Any, request: Any, by_piece: bool) -> Any:
    try:
        async with one.stream(request) as response:
            body = b"".join([piece async for piece in response]) if by_piece else await response.read()
            return response.status, response.reason, response.headers, response.http_version, body
    except errors.TransportError as error:
        return type(error), str(error)


@pytest.mark.parametrize("by_piece", [False, True])
@pytest.mark.parametrize("name", ANSWERS)
def test_every_answer_is_read_as_dspys_transport_reads_it(name: str, by_piece: bool) -> None:
    requests: list[tuple[bytes, bytes]] = []

    async def scripted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await request_of(reader))
        for piece in ANSWERS[name]:
            if not piece:
                return
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        await reader.read()

    async def main() -> None:
        found = []
        async with serving(scripted) as port:
            for make in (DSPYS, transport.make):
                one = make(read_timeout=20.0)
                found.append(await outcome(one, post(port), by_piece))
                await one.aclose()
        assert found[0] == found[1]
        assert requests[0] == requests[1]

    asyncio.run(main())


def test_a_refused_connection_is_dspys_error() -> None:
    async def main() -> None:
        async with serving(answer) as port:
            pass
        found = [await outcome(make(), post(port), False) for make in (DSPYS, transport.make)]
        assert found[0] == found[1]
        assert found[0][0] is errors.ConnectError

    asyncio.run(main())


def test_one_connection_serves_one_request_after_the_other() -> None:
    async def main() -> None:
        async with serving(answer) as port:
            one = transport.make()
            for _ in range(20):
                assert await ask(one, post(port)) == (200, b"hi")
            assert one.pool_stats() == {"idle": 1, "in_use": 0, "total_opened": 1}
            await one.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("parting", [b"", b"HTTP/1.1 408 Request Timeout\r\n\r\n"])
def test_a_connection_that_the_server_has_closed_or_written_to_is_not_used_again(parting: bytes) -> None:
    async def main() -> None:
        closed = asyncio.Event()

        async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request_of(reader)
            writer.write(OK + parting)
            await writer.drain()
            if not parting:
                writer.close()
                await writer.wait_closed()
                closed.set()
            else:
                closed.set()
                await reader.read()

        async with serving(once) as port:
            one = transport.make()
            for opened in (1, 2, 3):
                closed.clear()
                assert await ask(one, post(port)) == (200, b"hi")
                await closed.wait()
                assert one.pool_stats()["total_opened"] == opened
            await one.aclose()

    asyncio.run(main())


def test_a_connection_that_breaks_while_it_is_idle_is_let_go() -> None:
    async def main() -> None:
        held: list[asyncio.StreamWriter] = []

        async def remembered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            held.append(writer)
            await answer(reader, writer)

        async with serving(remembered) as port:
            one = transport.make()
            await ask(one, post(port))
            held[0].transport.abort()
            while not one._free[("http", "127.0.0.1", port)][0]._ended:
                await asyncio.sleep(0)
            assert await ask(one, post(port)) == (200, b"hi")
            assert one.pool_stats() == {"idle": 1, "in_use": 0, "total_opened": 2}
            await one.aclose()

    asyncio.run(main())


def test_a_cancelled_request_closes_its_connection_and_gives_its_place_back() -> None:
    async def main() -> None:
        arrived, left = asyncio.Event(), asyncio.Event()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request_of(reader)
            if arrived.is_set():
                writer.write(OK)
                await reader.read()
                return
            arrived.set()
            assert await reader.read() == b""
            left.set()

        async with serving(silent) as port:
            one = transport.make(max_connections=1)
            task = asyncio.create_task(ask(one, post(port)))
            await arrived.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await left.wait()
            assert one.pool_stats() == {"idle": 0, "in_use": 0, "total_opened": 1}
            assert await ask(one, post(port)) == (200, b"hi")
            await one.aclose()

    asyncio.run(main())


def test_a_stream_that_is_left_closes_its_connection_and_gives_its_place_back() -> None:
    async def main() -> None:
        left = asyncio.Event()

        async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request_of(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
            await reader.read()
            left.set()

        async with serving(endless) as port:
            one = transport.make(max_connections=1)
            async with one.stream(post(port)) as response:
                async for piece in response:
                    assert piece == b"abc"
                    break
            await left.wait()
            assert one.pool_stats()["in_use"] == 0
            assert not one._pool._slot.locked()
            await one.aclose()

    asyncio.run(main())


def test_who_waits_for_a_place_gets_it_or_dspys_error() -> None:
    async def main() -> None:
        go = asyncio.Event()

        async def later(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                await request_of(reader)
                await go.wait()
                writer.write(OK)

        async with serving(later) as port:
            found = []
            for make in (DSPYS, transport.make):
                one = make(max_connections=1, pool_timeout=0.01)
                go.clear()
                first = asyncio.create_task(ask(one, post(port)))
                while not one.pool_stats()["in_use"]:
                    await asyncio.sleep(0)
                found.append(await outcome(one, post(port), False))
                go.set()
                assert await first == (200, b"hi")
                assert await ask(one, post(port)) == (200, b"hi")
                await one.aclose()
            assert found[0] == found[1]

    asyncio.run(main())


@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi"])
def test_a_server_that_stops_speaking_is_dspys_timeout(first: bytes) -> None:
    async def main() -> None:
        async def stuck(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request_of(reader)
            writer.write(first)
            await reader.read()

        async with serving(stuck) as port:
            found = []
            for make in (DSPYS, transport.make):
                one = make(read_timeout=0.05)
                found.append(await outcome(one, post(port), False))
                assert one.pool_stats()["in_use"] == 0
                await one.aclose()
            assert found[0] == found[1]
            assert found[0][0] is errors.ReadTimeout

    asyncio.run(main())


LARGE = b"x" * (8 << 20)  # more than a socket takes


def test_a_server_that_does_not_read_is_waited_for_until_the_timeout() -> None:
    async def main() -> None:
        go = asyncio.Event()

        async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await go.wait()
            _, body = await request_of(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n%d" % (len(body) >> 20 == 8) + b"!")
            await reader.read()

        async with serving(slow, limit=1 << 16) as port:
            one = transport.make()
            assert (await outcome(one, post(port, LARGE, write_timeout=0.05), False))[0] is errors.WriteTimeout
            assert one.pool_stats()["in_use"] == 0
            task = asyncio.create_task(ask(one, post(port, LARGE)))
            while not any(conn._is_full for conn in one._busy):
                await asyncio.sleep(0)
            go.set()
            assert await task == (200, b"1!")
            await one.aclose()

    asyncio.run(main())


def test_a_server_that_leaves_while_it_is_written_to_is_dspys_error() -> None:
    async def main() -> None:
        async def gone(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(10)
            writer.transport.abort()

        async with serving(gone, limit=1 << 16) as port:
            one = transport.make()
            kind, _ = await outcome(one, post(port, LARGE), False)
            assert issubclass(kind, (errors.WriteError, errors.ReadError))
            assert one.pool_stats()["in_use"] == 0
            assert not one._pool._slot.locked()
            await one.aclose()

    asyncio.run(main())


def test_what_nobody_reads_is_not_taken_from_the_server() -> None:
    async def main() -> None:
        full = asyncio.Event()

        async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request_of(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(LARGE) + LARGE)
            full.set()
            await writer.drain()
            await reader.read()

        async with serving(pour) as port:
            one = transport.make()
            async with one.stream(post(port)) as response:
                await full.wait()
                (conn,) = one._busy
                while not conn._is_paused:
                    await asyncio.sleep(0)
                assert conn._size < transport.UNREAD + (1 << 20)
                assert len(await response.read()) == len(LARGE)
            assert one.pool_stats()["idle"] == 1
            await one.aclose()

    asyncio.run(main())


def tls() -> ssl.SSLContext:
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    found.load_cert_chain(CERTIFICATE)
    return found


def test_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))

    async def main() -> None:
        async def large(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                _, body = await request_of(reader)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

        async with serving(large, ssl=tls()) as port:
            one = transport.make()
            for body in (b"hi", LARGE, b"ho"):
                assert await ask(one, post(port, body, "https", "localhost")) == (200, body)
            assert one.pool_stats() == {"idle": 1, "in_use": 0, "total_opened": 1}
            await one.aclose()

    asyncio.run(main())


def test_a_certificate_that_nobody_knows_is_refused() -> None:
    async def main() -> None:
        async with serving(answer, ssl=tls()) as port:
            one = transport.make()
            kind, text = await outcome(one, post(port, scheme="https", host="localhost"), False)
            assert kind is errors.ConnectError
            assert "CERTIFICATE_VERIFY_FAILED" in text
            await one.aclose()

    asyncio.run(main())


async def _tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    there, back = await asyncio.open_connection("127.0.0.1", port)

    async def pump(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(1 << 16):
                to.write(data)
                await to.drain()
        to.close()

    try:
        await asyncio.gather(pump(reader, back), pump(there, writer))
    finally:
        back.close()


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_proxies_of_the_environment_are_used(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        lines: list[bytes] = []

        async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                head, _ = await request_of(reader)
                lines.append(head)
                writer.write(OK)

        async with serving(proxy) as at, serving(answer) as port:
            one = transport.make()
            await ask(one, post(port))
            monkeypatch.setenv(name, f"http://user:pass@127.0.0.1:{at}")
            for _ in range(2):
                assert await ask(one, post(port)) == (200, b"hi")
            assert [head.split(b"\r\n")[0] for head in lines] == [b"POST http://127.0.0.1:%d/v1/chat HTTP/1.1" % port] * 2
            assert b"Proxy-Authorization: Basic dXNlcjpwYXNz" in lines[0]
            monkeypatch.setenv("NO_PROXY", "127.0.0.1")
            assert await ask(one, post(port)) == (200, b"hi")
            assert len(lines) == 2
            await one.aclose()

    asyncio.run(main())


def test_tls_goes_through_a_tunnel_of_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))

    async def main() -> None:
        lines: list[bytes] = []

        async with serving(answer, ssl=tls()) as port:

            async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                lines.append((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0])
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await _tunnel(reader, writer, port)

            async with serving(proxy) as at:
                monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{at}")
                one = transport.make()
                for _ in range(2):
                    assert await ask(one, post(port, scheme="https", host="localhost")) == (200, b"hi")
                assert lines == [b"CONNECT localhost:%d HTTP/1.1" % port]
                await one.aclose()

    asyncio.run(main())


def test_a_thousand_at_once_and_again_on_the_same_connections() -> None:
    many = 1000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192) if hard != resource.RLIM_INFINITY else 8192, hard))

    async def main() -> None:
        waiting, go = 0, asyncio.Event()

        async def together(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal waiting
            while True:
                await request_of(reader)
                waiting += 1
                if waiting == many:
                    go.set()
                await go.wait()
                writer.write(OK)

        async with serving(together) as port:
            one = transport.make(max_connections=many, read_timeout=60.0)
            for _ in range(2):
                waiting = 0
                go.clear()
                assert await asyncio.gather(*(ask(one, post(port)) for _ in range(many))) == [(200, b"hi")] * many
            assert one.pool_stats() == {"idle": many, "in_use": 0, "total_opened": many}
            await one.aclose()

    try:
        asyncio.run(main())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_closed_transport_takes_nothing_more() -> None:
    async def main() -> None:
        async with serving(answer) as port:
            one = transport.make()
            await ask(one, post(port))
            await one.aclose()
            assert await outcome(one, post(port), False) == (errors.TransportError, "transport is closed")

    asyncio.run(main())


def test_a_transport_that_is_let_go_closes_its_connections() -> None:
    async def main() -> None:
        left = asyncio.Event()

        async def told(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(asyncio.IncompleteReadError):
                await answer(reader, writer)
            left.set()

        async with serving(told) as port:
            one = transport.make()
            await ask(one, post(port))
            del one
            gc.collect()
            await left.wait()

    asyncio.run(main())


@pytest.mark.parametrize("scheme", ["a\r\nb", "a\nb"])
def test_a_header_that_would_end_its_line_is_refused(scheme: str) -> None:
    async def main() -> None:
        async with serving(answer) as port:
            one = transport.make()
            request = post(port)
            request.headers.append(("X", scheme))
            kind, _ = await outcome(one, request, False)
            assert kind is errors.ProtocolError
            assert not one._pool._slot.locked()
            await one.aclose()

    asyncio.run(main())


def test_profiles_use_it_unless_it_is_switched_off() -> None:
    async def steps(server: FakeLM, engine: DSPyEngine) -> None:
        for names, kind in ((set(fast.NAMES), transport.Transport), ({"texts"}, DSPYS)):
            fast._taken.clear()
            fast._taken.update(names)
            lm = profile(server, max_connections=7, timeout_ms=5000 + len(names))
            assert (await engine.run(program(), {"question": "why?"}, context(lm))).outputs["answer"]
            with engine._profiles.use(lm) as found:
                assert found.engines is not None
                inner: AsyncLM15Engine = found.engines[1].of_loop()
                used = inner.router._shared_transport()
                assert type(used) is kind
                assert used.max_connections == 7
                assert used._read_timeout == used._connect_timeout == (5000 + len(names)) / 1000
        server.script = [Reply(cut="accept")]
        assert (await failure(engine.run(program(), {"question": "why?"}, context(lm)))).code == "lm_connection"

    scenario(steps)
    fast.read()


@pytest.mark.parametrize(("head", "expected"), [(b"", (200, b"hi")), (b"Dspex-Model-Unreachable: 1\r\n", errors.ConnectError)])
def test_at_level_strict_it_goes_through_the_host(head: bytes, expected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "level", lambda: "strict")

    async def main() -> None:
        hosts: list[asyncio.Task[Any]] = []

        async def serve(theirs: socket.socket) -> None:
            reader, writer = await asyncio.open_unix_connection(sock=theirs)
            await request_of(reader)
            writer.write(OK.replace(b"\r\n", b"\r\n" + head, 1))
            await reader.read()
            writer.close()

        def connect() -> socket.socket:
            ours, theirs = socket.socketpair()
            hosts.append(asyncio.ensure_future(serve(theirs)))
            return ours

        monkeypatch.setattr(outside, "_connect", connect)
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        one = transport.make()
        found = await outcome(one, post(1, host="model.invalid"), False)
        assert (found[0], found[4]) == expected if head == b"" else found[0] is expected
        await one.aclose()
        await asyncio.gather(*hosts)

    asyncio.run(main())
