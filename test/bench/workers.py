"""Commands of the part "workers": what its figures are taken of."""

import asyncio
import ctypes
import socket
import time

from dspex_worker import command, current_job


async def _say_running():
    current_job().emit("running")
    await asyncio.sleep(0)  # the loop writes it before it comes back here


@command
async def in_sleep():
    await _say_running()
    await asyncio.sleep(600)


@command
async def in_socket():
    """Waits for an answer that never comes, as for a language model."""
    near, far = socket.socketpair()
    near.setblocking(False)
    await _say_running()
    with near, far:
        await asyncio.get_running_loop().sock_recv(near, 1)


@command
async def in_lock():
    lock = asyncio.Lock()
    await lock.acquire()
    await _say_running()
    await lock.acquire()


@command
def in_thread():
    """A synchronous function that computes."""
    current_job().emit("running")
    while True:
        pass


@command
async def hold_gil():
    """C code that keeps the interpreter's lock and uses no processor: a mutex, locked twice."""
    await _say_running()
    library, mutex = ctypes.PyDLL(None), ctypes.create_string_buffer(64)
    library.pthread_mutex_lock(mutex)
    library.pthread_mutex_lock(mutex)


@command
async def block_loop():
    """Never gives the event loop back."""
    await _say_running()
    time.sleep(600)


@command
async def swallow():
    """Ignores its cancellation for ever."""
    await _say_running()
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            continue
