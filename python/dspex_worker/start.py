"""From HELLO to READY: the handshake, and all that is loaded before the event loop exists."""

from __future__ import annotations

import functools
import gc
import hashlib
import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dspex_worker import __version__, engines, imports, registry
from dspex_worker.commands.table import BUILTIN, Command
from dspex_worker.config import Config, read_config
from dspex_worker.engines import Engine
from dspex_worker.errors import WorkerError, describe
from dspex_worker.protocol import bodies, frames, wire
from dspex_worker.protocol.frames import FrameReader, FrameType, frame
from dspex_worker.signatures.module_inputs import read_inputs, read_signature
from dspex_worker.system import process
from dspex_worker.worker import Worker, error_body

__all__ = ["PROTO", "Preloaded", "Started", "failed", "hello", "preload", "read_init", "read_init_body", "send_all", "start"]

PROTO = 1  # version of contract/frame.md
EXIT_START_FAILED = 3


@dataclass
class Preloaded:
    """What takes long and is the same for every worker of a host: the engine and the operator's modules."""

    config: Config
    engine: Engine
    table: dict[str, Command]
    functions: list[registry.UserCommand]  # commands that are user functions
    import_ms: int

    @property
    def slots(self) -> int:
        """Concurrent calls."""
        return self.config.slots or self.engine.default_slots

    def ready(self) -> bytes:
        """The body of READY."""
        exclusive = {name for name, entry in self.table.items() if entry.exclusive}
        exclusive.update(entry.name for entry in self.functions if entry.exclusive)
        names = {*self.table, *(entry.name for entry in self.functions)}
        engine = self.engine
        rss = process.rss_bytes()
        return wire.encode([self.slots, sorted(names), sorted(exclusive), engine.name, engine.version, rss, self.import_ms])


@dataclass
class Started:
    """A worker that is ready but for its loop."""

    worker: Worker
    preloaded: Preloaded
    reader: FrameReader
    early: list[tuple[int, int, bytes]]  # frames that came with INIT


def send_all(data: bytes) -> None:
    """Writes to the host to the last byte; a host that does not read any more is gone."""
    try:
        sent = os.write(process.TO_HOST_FD, data)
        while sent < len(data):
            data = data[sent:]
            sent = os.write(process.TO_HOST_FD, data)
    except BrokenPipeError:
        process.die()


@functools.cache
def runtime_hash() -> str:
    """SHA-256 over the package's files in order of their paths: path, NUL, size as decimal text, NUL, content."""
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).as_posix()):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def hello() -> bytes:
    """The frame that identifies the worker, sent before anything slow happens."""
    body = [
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
    return frame(FrameType.HELLO, 0, wire.encode(body))


def failed(error: BaseException) -> tuple[bytes, int]:
    """The frame that reports why the worker cannot start, and the exit status."""
    failure = describe(error)
    if failure.category != "initialization":
        failure.category, failure.code = "initialization", "start_failed"
    return frame(FrameType.ERROR, 0, error_body(failure, frames.DEFAULT_MAX)), EXIT_START_FAILED


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
    return read_init_body(kind, body), reader, found


def read_init_body(kind: int, body: bytes) -> dict[str, Any]:
    """INIT's config map; an error if the frame is another or the host has another protocol."""
    if kind != FrameType.INIT:
        raise frames.ProtocolError(f"frame type {kind} before INIT")
    proto, config = bodies.read(FrameType.INIT, body)
    if proto != PROTO:
        raise WorkerError(
            "initialization",
            "proto_mismatch",
            f"the host has protocol {proto}, this worker ({__version__}) has {PROTO}",
            hint="use the worker package that belongs to the host's release",
        )
    checked: dict[str, Any] = config
    return checked


def preload(found: dict[str, Any]) -> Preloaded:
    """Loads the engine, then the operator's modules; refuses names that clash."""
    begun = time.perf_counter()
    config = read_config(found)
    try:
        engine = engines.load(config.engine)
    except ValueError as error:
        raise WorkerError("initialization", "bad_config", f"INIT config: {error}") from None
    engine.start(found)
    table, functions = _builtin(config)
    imports.add_sites(config.sites)
    imports.refuse_hidden(config.imports, config.paths)
    imports.load_modules(config.imports, getattr(engine, "settings", lambda: None))
    wrong = registry.clashes({*table, *(entry.name for entry in functions)})
    if wrong:
        raise WorkerError("initialization", "name_clash", "; ".join(wrong), hint="rename them: @command(name=...)")
    for entry in registry.registered.programs:
        entry.module = _built(entry)
        entry.inputs = read_inputs(entry.module)
        entry.signature = read_signature(entry.module, entry.inputs)
    functions += registry.registered.commands
    return Preloaded(config, engine, table, functions, round((time.perf_counter() - begun) * 1000))


def start(found: dict[str, Any], reader: FrameReader, early: list[tuple[int, int, bytes]], preloaded: Preloaded | None = None) -> Started:
    """A worker from INIT's config; preloaded is what its zygote has loaded for it."""
    config = read_config(found)
    reader.max_body = config.max_frame
    if preloaded is None:
        preloaded = preload(found)
        # What was imported stays: the collector need not look at it again and again.
        gc.freeze()
    elif replace(config, worker="") != replace(preloaded.config, worker=""):
        raise WorkerError("initialization", "bad_config", "INIT config: it differs from the zygote's in more than the worker's name")
    for function in registry.registered.after_fork:
        _own(function)
    worker = Worker(config, preloaded.engine, leave=lambda reason: None)
    for entry in registry.registered.programs:
        worker.programs[entry.id] = entry
    return Started(worker, preloaded, reader, early)


def _own(function: Any) -> None:
    try:
        function()
    except Exception as error:
        failure = describe(error)
        failure.category, failure.code = "initialization", "import_failed"
        failure.message = f"@after_fork {getattr(function, '__name__', 'function')}: {failure.message}"
        raise failure from error


def _builtin(config: Config) -> tuple[dict[str, Command], list[registry.UserCommand]]:
    table, functions = dict(BUILTIN), []
    if config.engine == "stub":
        from dspex_worker.commands import stub as stub_commands

        table.update({name: Command(run) for name, run in stub_commands.INLINE.items()})
        functions.append(stub_commands.SPIN)
    return table, functions


def _built(entry: registry.UserProgram) -> Any:
    try:
        return imports.build(entry)
    except Exception as error:
        failure = describe(error)
        failure.category, failure.code = "initialization", "import_failed"
        if isinstance(entry.target, type):
            failure.hint = "a worker makes an object of the class, without arguments; a DSPy module has a forward or an aforward"
        failure.message = f"program {entry.id} cannot be built: {failure.message}"
        raise failure from error
