"""Partial outputs: the language model's chunks, cut to the text outputs that they belong to.

DSPy's own way is not taken. Its `streamify` hands chunks over in a generator. Leaving that early lets the call run on, while its
clean-up cancels the task that reads. Its listeners lose text that contains "[[", and mix two calls of one predictor. Here DSPy
sends the chunks straight to the sink, in the task or thread of the call. Each call of a model has a splitter of its own, which
reads them as the adapter will read the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import dspy

from dspex_worker.engines.dspy_engine.patches.seam import call_var
from dspex_worker.engines.dspy_engine.patches.splitters import JSONSplitter, Reader, Splitter, XMLSplitter
from dspex_worker.engines.dspy_engine.trace import Trace

__all__ = ["Sink", "Splitter"]

_SPLITTERS: tuple[tuple[type, Callable[..., Reader]], ...] = (
    (dspy.JSONAdapter, JSONSplitter),
    (dspy.XMLAdapter, XMLSplitter),  # before the chat adapter, its parent
    (dspy.ChatAdapter, Splitter),
)


@dataclass
class _Listener:
    """What DSPy looks at to find out whether it shall stream a predictor."""

    predict: Any
    fields: tuple[str, ...]


class Sink:
    """Where DSPy sends the chunks of one job. emit: takes field, text, and the number of the model's call, from 0."""

    def __init__(self, emit: Callable[..., None], trace: Trace, predictors: Iterable[Any]) -> None:
        self._emit = emit
        self._trace = trace
        self.listeners: list[_Listener] = []
        for predictor in predictors:
            fields = tuple(name for name, info in predictor.signature.output_fields.items() if info.annotation is str)
            if fields:
                self.listeners.append(_Listener(predictor, fields))
        self._fields = {id(listener.predict): listener.fields for listener in self.listeners}
        self._calls = 0
        self._open: dict[int, Reader | None] = {}  # by the number of the call in this process

    async def send(self, chunk: Any) -> None:
        """Takes a chunk from DSPy, in a task."""
        self.take(chunk)

    def take(self, chunk: Any) -> None:
        """Takes a chunk from DSPy, in any thread."""
        call = call_var.get()
        if call not in self._open:
            self._open[call] = self._reader(getattr(chunk, "predict_id", None) or 0)
        reader = self._open[call]
        choice = chunk.choices[0] if chunk.choices else None
        if reader is None or choice is None:
            return
        if choice.delta.content:
            reader.feed(choice.delta.content)
        if choice.finish_reason is not None:
            reader.finish()
            self._open[call] = None

    def _reader(self, predictor: int) -> Reader | None:
        fields = self._fields.get(predictor)
        make: Callable[..., Reader] | None
        adapter = dspy.settings.adapter
        make = Splitter if adapter is None else next((make for kind, make in _SPLITTERS if isinstance(adapter, kind)), None)
        if fields is None or make is None:
            return None
        with self._trace.lock:
            number, self._calls = self._calls, self._calls + 1

        def pass_on(field: str, text: str) -> None:
            self._trace.chunks += 1
            self._emit(field, text, number)

        return make(fields, pass_on)
