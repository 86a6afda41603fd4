"""Programs that do to a worker what programs should not. Beside them, in the same process, others are served."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import dspy

from dspex_worker import program


class QA(dspy.Module):  # type: ignore[misc]
    """A module with one predictor; what it does says the function."""

    def __init__(self, do: Callable[[Any], Any]) -> None:
        super().__init__()
        self.qa = dspy.Predict("question -> answer")
        self.do = do

    def forward(self) -> Any:
        return self.do(self.qa)


class AsyncQA(QA):
    """The same as a coroutine."""

    async def aforward(self) -> Any:
        return await self.do(self.qa)


def nasty(do: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Makes the function a program of its name."""
    made = AsyncQA(do) if asyncio.iscoroutinefunction(do) else QA(do)
    program(do.__name__)(made)
    return do


class Unprintable(Exception):
    """Whoever looks at it ends the process."""

    def __str__(self) -> str:
        raise SystemExit(7)

    __repr__ = __str__


class Liar:
    """An object that is nothing and says that it is a dict."""

    __class__ = dict  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        raise SystemExit(8)


@nasty
def loop_of_its_own(qa: Any) -> Any:
    return asyncio.run(qa.acall(question="?"))


@nasty
async def sleeping_tools(qa: Any) -> Any:
    tool = dspy.Tool(lambda: time.sleep(0.5), name="sleep")
    await asyncio.gather(*(tool.acall() for _ in range(20)))
    return {"slept": True}


@nasty
async def holds_the_loop(qa: Any) -> Any:
    time.sleep(0.4)
    return {"slept": True}


@nasty
def unprintable(qa: Any) -> Any:
    raise Unprintable


@nasty
def unprintable_cause(qa: Any) -> Any:
    raise ValueError("outer") from Unprintable()


@nasty
def exits(qa: Any) -> Any:
    sys.exit(3)


@nasty
def interrupts_itself(qa: Any) -> Any:
    raise KeyboardInterrupt


@nasty
async def cancels_itself(qa: Any) -> Any:
    raise asyncio.CancelledError


@nasty
def threads_live_on(qa: Any) -> Any:
    def go_on() -> None:
        with contextlib.suppress(Exception):
            while True:
                qa(question="still here")

    for daemon in (True, False):
        threading.Thread(target=go_on, daemon=daemon).start()
    return {"left": 2}


@nasty
def threads_raise(qa: Any) -> Any:
    def fail() -> None:
        raise Unprintable

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    return {"ok": True}


@nasty
async def tasks_live_on(qa: Any) -> Any:
    async def go_on() -> None:
        with contextlib.suppress(Exception):
            while True:
                await qa.acall(question="still here")

    async def fail() -> None:
        raise Unprintable

    LEFT.extend(asyncio.ensure_future(one) for one in (go_on(), fail()))
    await asyncio.sleep(0)
    return {"left": 2}


LEFT: list[Any] = []


@nasty
def forks_and_leaves(qa: Any) -> Any:
    if os.fork() == 0:
        time.sleep(600)
        os._exit(0)
    return {"forked": True}


@nasty
def forks_and_returns_twice(qa: Any) -> Any:
    return {"parent": os.fork() != 0}


@nasty
def leaves_a_process(qa: Any) -> Any:
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    return {"left": True}


@nasty
def huge(qa: Any) -> Any:
    return {"text": "x" * (80 << 20)}


@nasty
def not_a_number(qa: Any) -> Any:
    return {"a": float("nan"), "b": float("-inf")}


@nasty
def recursion(qa: Any) -> Any:
    return recursion(qa)


@nasty
def deep(qa: Any) -> Any:
    found: Any = []
    for _ in range(100_000):
        found = [found]
    return {"deep": found}


@nasty
def cyclic(qa: Any) -> Any:
    found: dict[str, Any] = {}
    found["self"] = found
    return found


@nasty
def liar(qa: Any) -> Any:
    return Liar()


@nasty
def patches_dspy(qa: Any) -> Any:
    dspy.configure(lm=None, adapter="none at all", callbacks=[object()], trace=5, max_errors="many")
    dspy.settings.rm = object()
    dspy.LM = dspy.Predict = dspy.ChatAdapter = dspy.settings.context = None
    return {"patched": True}


@nasty
def prints(qa: Any) -> Any:
    print("x" * (8 << 20))
    print("y" * (8 << 20), file=sys.stderr)
    sys.stdout.close()
    return {"printed": True}


@nasty
def breaks_logging(qa: Any) -> Any:
    class Breaks(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise Unprintable

    logging.basicConfig(force=True, handlers=[Breaks()])
    logging.raiseExceptions = True
    logging.getLogger("mine").error("%s", Unprintable())
    return {"logged": True}


@nasty
def changes_the_process(qa: Any) -> Any:
    os.chdir("/")
    os.environ.clear()
    socket.setdefaulttimeout(0.001)
    warnings.simplefilter("error")
    random.seed(0)
    gc.disable()
    os.umask(0o777)
    return {"changed": True}


@nasty
def takes_the_signals(qa: Any) -> Any:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    return {"blocked": True}


@nasty
async def stops_the_loop(qa: Any) -> Any:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(None)
    loop.stop()
    return {"stopped": True}


@nasty
def much_memory(qa: Any) -> Any:
    return {"bytes": len(bytearray(256 << 20))}


@nasty
def own_model_fails(qa: Any) -> Any:
    lm = dspy.clients.lm.LM("openai/mine", api_base="http://127.0.0.1:9/v1", api_key="sk-of-my-own-0123456789", num_retries=0, cache=False)
    with dspy.context(lm=lm):
        return qa(question="?")


@nasty
def kills_the_worker(qa: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)
