"""Commands that do what no command should: each is a row of the fault catalogue that the host's tests provoke."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import signal
import struct
import sys
import time
from typing import Any

from dspex_worker import command, current_job

_kept: list[bytearray] = []


@command
async def deaf() -> None:
    """Ignores its cancellation for ever, in a place that no thread's stack shows."""
    current_job().emit("running")
    while True:
        try:
            await _stay()
        except asyncio.CancelledError:
            continue


async def _stay() -> None:
    await asyncio.Event().wait()


@command
async def hold_gil() -> None:
    """C code that keeps the interpreter's lock for ages: no other thread runs, and no signal interrupts it."""
    await _say_running()
    re.match(r"(a+)+$", "a" * 60 + "b")


async def _say_running() -> None:
    current_job().emit("running")
    await asyncio.sleep(0)  # the loop writes it before it comes back here


@command
async def block_the_loop() -> None:
    """Never gives the event loop back; the interpreter is free."""
    await _say_running()
    while True:
        time.sleep(0.01)


@command
def garbage() -> None:
    """Writes into the pipe of the frames what is no frame."""
    os.write(4, b"this is no frame at all " * 10)
    time.sleep(600)


@command
def half_a_frame_then_exit() -> None:
    """Dies inside of a frame."""
    os.write(4, struct.pack("<2sBBIQ", b"DX", 66, 0, 1000, 1) + b"half")
    os._exit(9)


@command
def flood_stderr(mb: int) -> int:
    """One endless line."""
    for _ in range(mb):
        os.write(2, b"x" * (1 << 20))
    return mb


@command
def print_everywhere() -> str:
    """From Python, from C and from a program."""
    print("from python")
    ctypes.CDLL(None).puts(b"from c")
    ctypes.CDLL(None).fflush(None)
    os.system("echo from a program")
    return "printed"


@command
def ignore_sigterm() -> str:
    """Blocks the polite signals in the whole process."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    return "ignored"


@command
async def fork_and_return() -> dict[str, Any]:
    """Leaves a second process running in the worker's own loop."""
    forked = os.fork()
    return {"forked": forked, "pid": os.getpid()}


@command
def fork_bomb(count: int, fifo: str) -> int:
    """Children that sleep, each with the FIFO open: its reader sees the end when the last is gone."""
    reader, writer = os.pipe()
    for _ in range(count):
        if os.fork() == 0:
            held = open(fifo, "w")  # noqa: SIM115 - as long as the process lives
            held.write("here\n")
            held.flush()
            os.write(writer, b".")
            time.sleep(600)
            os._exit(0)
    seen = 0
    while seen < count:
        seen += len(os.read(reader, count))
    return count


@command
def leak(mb: int) -> int:
    """Takes memory, touches it, keeps it."""
    _kept.append(bytearray(b"\x01") * (mb << 20))
    return mb


@command
def leak_and_stay(mb: int) -> None:
    """The same, and does not return."""
    leak(mb)
    time.sleep(600)


@command
def stop() -> None:
    """Stops the whole process, as a debugger would."""
    os.kill(os.getpid(), signal.SIGSTOP)


@command
def die(with_signal: int) -> None:
    """Ends by a signal."""
    print("last words", file=sys.stderr, flush=True)
    os.kill(os.getpid(), with_signal)
    time.sleep(600)


@command
def nap(ms: int) -> int:
    """Sleeps in a thread, where a cancellation comes after the sleep, and swallows one that comes before."""
    told = False
    end = time.monotonic() + ms / 1000
    while (left := end - time.monotonic()) > 0:
        try:
            if not told:
                told = True
                current_job().emit("running")
            time.sleep(left)
        except BaseException:
            continue
    return ms
