"""DSPy's chat adapter without the work that is the same in every call of a program.

DSPy writes the system message and the reminder of the outputs again for each call, and builds a pydantic adapter for each
value: a quarter of the processor time of a predict.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import dspy
import dspy.adapters.utils
import pydantic

__all__ = ["ChatAdapter", "keep_type_adapters"]

KEPT_TYPES = 256  # classes and annotations of values whose pydantic adapters are kept


class ChatAdapter(dspy.ChatAdapter):  # type: ignore[misc]
    """Keeps the texts that depend on the signature alone. Its name counts: DSPy's streaming looks adapters up by it."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: WeakKeyDictionary[Any, dict[str, tuple[str | None, Any]]] = WeakKeyDictionary()

    def format_system_message(self, signature: Any) -> str:
        text: str = self._once(signature, "system", super().format_system_message)
        return text

    def user_message_output_requirements(self, signature: Any) -> Any:
        return self._once(signature, "outputs", super().user_message_output_requirements)

    def _once(self, signature: Any, name: str, make: Callable[[Any], Any]) -> Any:
        # Signatures are replaced, not changed, but for their instructions, which are the class's doc string.
        kept = self._kept.get(signature)
        if kept is None:
            kept = self._kept[signature] = {}
        found = kept.get(name)
        if found is None or found[0] != signature.__doc__:
            found = kept[name] = (signature.__doc__, make(signature))
        return found[1]


# DSPy wraps both in callbacks for each class of adapter: with the parent's wrapping they would be reported twice.
del ChatAdapter.format, ChatAdapter.parse


_adapters: dict[int, tuple[Any, Any]] = {}  # by identity; holding the annotation keeps the identity its own


def _kept_type_adapter(kind: Any) -> Any:
    # By identity, not by equality: two unions are equal whatever the order of their parts, and the order decides.
    found = _adapters.get(id(kind))
    if found is None or found[0] is not kind:
        if len(_adapters) >= KEPT_TYPES:
            _adapters.clear()
        found = _adapters[id(kind)] = (kind, pydantic.TypeAdapter(kind))
    return found[1]


def keep_type_adapters() -> None:
    """Makes DSPy's formatting of values reuse pydantic adapters, as pydantic advises. For the DSPy that is installed."""
    dspy.adapters.utils.TypeAdapter = _kept_type_adapter
