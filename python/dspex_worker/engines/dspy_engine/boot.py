"""Brings DSPy into a state that suits a worker: quiet, without caches and histories, everything imported and warm."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from typing import Any

import dspy
from dspy import lm15

from dspex_worker.engines.dspy_engine import tools
from dspex_worker.engines.dspy_engine.models import outside, waits
from dspex_worker.engines.dspy_engine.models.lm import engine_of, note_finish
from dspex_worker.engines.dspy_engine.patches import fast, interpreter, kept, seam, settings, texts
from dspex_worker.engines.dspy_engine.patches.adapter import ChatAdapter, keep_type_adapters
from dspex_worker.system import inherit

__all__ = ["ADAPTER", "configure", "warm_up"]

# One for all calls: it holds no state. Named explicitly, because DSPy's default is about to change.
ADAPTER = ChatAdapter()

# Without the first, DSPy and litellm fetch a price list from the network; without the second, litellm reads .env files.
_QUIET = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION"}


def configure() -> None:
    """Sets the process-wide defaults. Must run on the main thread, outside of any task: DSPy records the thread."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    # Warnings of DSPy show values: prompts, answers, tracebacks of tools.
    logging.getLogger("dspy").setLevel(logging.ERROR)
    fast.read()
    outside.install()
    waits.install()
    inherit.install()
    settings.install()
    seam.install()
    tools.install()
    interpreter.install()
    if fast.taken(fast.KEPT):
        keep_type_adapters()
        kept.install()
    if fast.taken(fast.TEXTS):
        texts.install(note_finish, engine_of)
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    # DSPy's own default is no adapter, for which a predictor makes a chat adapter in each call.
    sys.modules["dspy.predict.predict"].ChatAdapter = lambda: ADAPTER  # type: ignore[attr-defined]
    dspy.configure(
        lm=None,
        disable_history=True,
        max_history_size=0,
        warn_on_type_mismatch=False,
        track_usage=False,
        provide_traceback=False,
    )


class _Canned:
    """A language model inside the process, for the warm-up."""

    def complete(self, request: lm15.Request) -> lm15.Response:
        message = {"role": "assistant", "content": "[[ ## answer ## ]]\nwarm\n\n[[ ## completed ## ]]"}
        body = {"id": "warm-up", "model": request.model, "choices": [{"message": message, "finish_reason": "stop"}]}
        return lm15.response_from_openai_chat(body, model=request.model)


def warm_up() -> None:
    """Runs one program without network, so that the first job pays for no import and no table."""
    import dspy.clients.costs
    import dspy.clients.model_metadata
    import dspy.streaming.streaming_listener

    dspy.clients.model_metadata.model_info("openai-chat", "gpt-4o-mini")
    lm: Any = dspy.LM("openai/warm-up", engine=_Canned(), cache=False, num_retries=0)
    with dspy.context(lm=lm, adapter=ADAPTER, trace=None, disable_history=True):
        for module in (dspy.Predict("question -> answer"), dspy.ChainOfThought("question -> answer")):
            # The chain of thought fails, since the answer lacks the reasoning: that path is warm then, too.
            with contextlib.suppress(dspy.utils.exceptions.AdapterParseError):
                module(question="warm?")
