"""From HELLO to READY: the handshake, and all that is loaded before the event loop exists."""

from __future__ import annotations

import gc
import hashlib
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dspex_worker import __version__, bodies, engines, frames, process, registry, wire
from dspex_worker.commands import BUILTIN, Command
from dspex_worker.config import Config, read_config
from dspex_worker.errors import WorkerError, describe
from dspex_worker.frames import FrameReader, FrameType, frame
from dspex_worker.worker import Worker, error_body

__all__ = ["PROTO", "Started", "read_init", "say_hello", "send_all", "start", "start_failed"]

PROTO = 1  # version of contract/frame.md
EXIT_START_FAILED = 3


@dataclass
class Started:
    """A worker that is ready but for its loop."""

    worker: Worker
    table: dict[str, Command]
    functions: list[registry.UserCommand]  # commands that are user functions
    reader: FrameReader
    early: list[tuple[int, int, bytes]]  # frames that came with INIT
    slots: int
    import_ms: int


def send_all(data: bytes) -> None:
    """Writes to the host to the last byte; a host that does not read any more is gone."""
    try:
        sent = os.write(process.TO_HOST_FD, data)
        while sent < len(data):
            data = data[sent:]
            sent = os.write(process.TO_HOST_FD, data)
    except BrokenPipeError:
        process.die()


def runtime_hash() -> str:
    """SHA-256 over the package's files in order of their paths: path, NUL, size as decimal text, NUL, content."""
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).as_posix()):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def say_hello() -> None:
    """Says who speaks, before anything slow happens."""
    hello = [
        PROTO,
        PROTO,
        __version__,
        runtime_hash(),
        ".".join(map(str, sys.version_info[:3])),
        sys.implementation.name,
        os.getpid(),
        os.environ.get("DSPEX_NONCE", ""),
        wire.CODEC,
    ]
    send_all(frame(FrameType.HELLO, 0, wire.encode(hello)))


def start_failed(error: BaseException) -> int:
    """Tells why the worker cannot start; returns the exit status."""
    failure = describe(error)
    if failure.category != "initialization":
        failure.category, failure.code = "initialization", "start_failed"
    send_all(frame(FrameType.ERROR, 0, error_body(failure, frames.DEFAULT_MAX)))
    return EXIT_START_FAILED


def read_init() -> tuple[dict[str, Any], FrameReader, list[tuple[int, int, bytes]]]:
    """Waits for INIT. Returns its config map, the reader, and the frames that came behind it."""
    reader = FrameReader()
    found: list[tuple[int, int, bytes]] = []
    while not found:
        data = os.read(process.FROM_HOST_FD, 1 << 16)
        if not data:
            process.die()
        found = reader.feed(data)
    kind, _, body = found.pop(0)
    if kind != FrameType.INIT:
        raise frames.ProtocolError(f"frame type {kind} before INIT")
    proto, config = bodies.read(FrameType.INIT, body)
    if proto != PROTO:
        raise WorkerError(
            "initialization",
            "proto_mismatch",
            f"the host speaks protocol {proto}, this worker ({__version__}) speaks {PROTO}",
            hint="use the worker package that belongs to the host's release",
        )
    return config, reader, found


def start(found: dict[str, Any], reader: FrameReader, early: list[tuple[int, int, bytes]]) -> Started:
    """Loads the engine, then the operator's modules; refuses names that clash."""
    begun = time.perf_counter()
    config = read_config(found)
    reader.max_body = config.max_frame
    try:
        engine = engines.load(config.engine)
    except ValueError as error:
        raise WorkerError("initialization", "bad_config", f"INIT config: {error}") from None
    engine.start(found)
    table, functions = _builtin(config)
    registry.load_modules(list(config.imports))
    wrong = registry.clashes({*table, *(entry.name for entry in functions)})
    if wrong:
        raise WorkerError("initialization", "name_clash", "; ".join(wrong), hint="rename them: @command(name=...)")
    worker = Worker(config, engine, leave=lambda reason: None)
    for entry in registry.registered.programs:
        worker.programs[entry.id] = entry
        entry.module = _built(entry)
    slots = config.slots or engine.default_slots
    # What was imported stays: the collector need not look at it again and again.
    gc.freeze()
    functions += registry.registered.commands
    return Started(worker, table, functions, reader, early, slots, round((time.perf_counter() - begun) * 1000))


def _builtin(config: Config) -> tuple[dict[str, Command], list[registry.UserCommand]]:
    table, functions = dict(BUILTIN), []
    if config.engine == "stub":
        from dspex_worker import stub_commands

        table.update({name: Command(run) for name, run in stub_commands.INLINE.items()})
        functions.append(stub_commands.SPIN)
    return table, functions


def _built(entry: registry.UserProgram) -> Any:
    """The module object; a class is called without arguments."""
    if not isinstance(entry.target, type):
        return entry.target
    try:
        return entry.target()
    except Exception as error:
        failure = describe(error)
        failure.category, failure.code = "initialization", "import_failed"
        failure.message = f"program {entry.id}: its class cannot be built without arguments: {failure.message}"
        raise failure from error
