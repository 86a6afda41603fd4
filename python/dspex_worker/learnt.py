"""What a program has learnt, in the form in which DSPy saves it (`module.save("state.json")`): demos and instructions by predictor.

Only these are taken. A state comes from a request. Nothing in it may become an attribute, a class, an address or code, so that
all else that DSPy writes there is dropped, and what DSPy does not write is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspex_worker.errors import WorkerError
from dspex_worker.protocol import wire

__all__ = ["MAX_BYTES", "checked_learnt", "counts", "read_learnt"]

MAX_BYTES = 256 << 10  # of one program, encoded: some hundred demos; a session's whole state is bounded as well
_MAX_PREDICTORS, _MAX_DEMOS = 64, 512

_OF_PREDICTOR = ("demos", "signature", "traces", "train", "lm", "fields")
_OF_SIGNATURE = ("instructions", "fields")
_SHAPE = "the JSON that DSPy's module.save(path.json) writes"


def read_learnt(value: Any, at: str, command: str) -> dict[str, dict[str, Any]]:
    """The state by predictor, with nothing but what counts; a `bad_input` reports where something is wrong."""
    reader = _Reader(command)
    found = dict(reader.map(value, at))
    found.pop("metadata", None)
    if "demos" in found and "signature" in found:  # a dspy.Predict writes its own state at the top
        found = {"self": found}
    if not 0 < len(found) <= _MAX_PREDICTORS:
        raise reader.no(f"it has {len(found)} predictors", at, f"1 to {_MAX_PREDICTORS}")
    learnt = {str(name): reader.predictor(entry, f"{at}.{name}"[:200]) for name, entry in found.items()}
    size = len(wire.encode(learnt))
    if size > MAX_BYTES:
        raise reader.no(f"it has {size} bytes", at, f"at most {MAX_BYTES} bytes: fewer or shorter demos")
    return learnt


def checked_learnt(value: Any, at: str, command: str) -> dict[str, dict[str, Any]]:
    """The same of a state that a session's document or a record holds: as read_learnt has left it."""
    reader = _Reader(command)
    saved = {}
    for name, entry in reader.map(value, at).items():
        found = dict(reader.map(entry, f"{at}.{name}"))
        signature = {key: found.pop(key, None) for key in _OF_SIGNATURE}
        saved[name] = {**found, "signature": signature}
    return read_learnt(saved, at, command)


class _Reader:
    def __init__(self, command: str) -> None:
        self._command = command

    def no(self, message: str, at: str, expected: str) -> WorkerError:
        return WorkerError("python", "bad_input", f"{self._command}: the state cannot be used: {message}", path=at, expected=expected)

    def map(self, value: Any, at: str) -> Mapping[str, Any]:
        if not isinstance(value, Mapping):
            raise self.no("it is no map", at, _SHAPE)
        return value

    def text(self, value: Any, at: str) -> str:
        if not isinstance(value, str):
            raise self.no("it is no text", at, "text")
        return value

    def list(self, value: Any, at: str, most: int) -> list[Any]:
        if not isinstance(value, list) or len(value) > most:
            raise self.no("it is no list, or too long", at, f"a list of at most {most}")
        return value

    def predictor(self, value: Any, at: str) -> dict[str, Any]:
        entry = self.map(value, at)
        unknown = sorted(str(key)[:64] for key in entry.keys() - set(_OF_PREDICTOR))
        if unknown:
            raise self.no(f"unknown keys {', '.join(unknown[:8])}", at, _SHAPE)
        demos = self.list(entry.get("demos", []), f"{at}.demos", _MAX_DEMOS)
        signature = self.map(entry.get("signature"), f"{at}.signature")
        if set(signature) - set(_OF_SIGNATURE):
            raise self.no("unknown keys", f"{at}.signature", ", ".join(_OF_SIGNATURE))
        fields = self.list(signature.get("fields"), f"{at}.signature.fields", 128)
        return {
            "demos": [dict(self.map(demo, f"{at}.demos[{index}]")) for index, demo in enumerate(demos)],
            "instructions": self.text(signature.get("instructions"), f"{at}.signature.instructions"),
            "fields": [self.field(field, f"{at}.signature.fields[{index}]") for index, field in enumerate(fields)],
        }

    def field(self, value: Any, at: str) -> dict[str, str]:
        entry = self.map(value, at)
        return {key: self.text(entry.get(key), f"{at}.{key}") for key in ("prefix", "description")}


def counts(learnt: Mapping[str, Any]) -> dict[str, int]:
    """What get_program_info returns of a state."""
    return {"predictors": len(learnt), "demos": sum(len(entry["demos"]) for entry in learnt.values())}
