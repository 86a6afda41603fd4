"""The configuration that INIT brings, checked as a whole: everything that is wrong is reported at once."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from dspex_worker.errors import WorkerError
from dspex_worker.protocol.frames import DEFAULT_MAX, HARD_MAX

__all__ = ["Config", "read_config"]


@dataclass(frozen=True)
class Config:
    """Keys of INIT's config map; each may be left out."""

    engine: str = "stub"
    slots: int = 0  # concurrent calls; 0: what the engine proposes
    worker: str = "worker"  # its name, "<host>/<n>"
    imports: tuple[str, ...] = ()  # modules of the operator
    paths: tuple[str, ...] = ()  # directories of these modules, which are in sys.path
    sites: tuple[str, ...] = ()  # directories of packages that they need, taken along with their .pth files
    history_turns: int = 50  # of one session
    history_bytes: int = 256 << 10  # of one session, encoded
    state_bytes: int = 4 << 20  # of one session, encoded
    max_frame: int = DEFAULT_MAX  # body of one frame, bytes
    mode: str = "pool-worker"  # reported by ping and shutdown
    warm_up: bool = True  # run a program before READY, so that no job pays for the first one
    answers: tuple[dict[str, Any], ...] = ()  # of tests: outputs of programs whose inputs have these values


_BOUNDS = {
    "slots": (0, 4096),
    "history_turns": (0, 10_000),
    "history_bytes": (0, HARD_MAX),
    "state_bytes": (1, HARD_MAX),
    "max_frame": (1024, HARD_MAX),
}
_LISTS = {"imports": "module names", "paths": "directories", "sites": "directories"}


def read_config(found: dict[str, Any]) -> Config:
    """The configuration, or an `initialization` error that names every key that is unknown or wrong."""
    known = {entry.name for entry in fields(Config)}
    wrong = [f"unknown key {key}" for key in sorted(found.keys() - known)]
    for key, value in found.items():
        if key in _BOUNDS:
            low, high = _BOUNDS[key]
            if type(value) is not int or not low <= value <= high:
                wrong.append(f"{key} must be an integer {low} .. {high}")
        elif key in _LISTS:
            if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
                wrong.append(f"{key} must be a list of {_LISTS[key]}")
        elif key == "answers":
            if not isinstance(value, list) or not all(_is_answer(answer) for answer in value):
                wrong.append("answers must be a list of maps with the maps where and outputs")
        elif key == "warm_up":
            if not isinstance(value, bool):
                wrong.append("warm_up must be true or false")
        elif key in known and (not isinstance(value, str) or not value):
            wrong.append(f"{key} must be a str that is not empty")
    if wrong:
        raise WorkerError("initialization", "bad_config", f"INIT config: {'; '.join(wrong)}")
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in found.items()}
    return Config(**values)


def _is_answer(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"where", "outputs"} and all(isinstance(part, dict) for part in value.values())
