"""What the operator's own modules add to a worker: commands and programs.

    from dspex_worker import command, current_job, program

    @command(exclusive=True)
    def resize(path: str, width: int = 100) -> dict: ...

    @program("summarise")
    class Summarise(dspy.Module): ...

The decorators only note things down; the runtime imports the modules at its start, refuses clashes and runs what it
found.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar, overload

from dspex_worker.errors import WorkerError
from dspex_worker.guard import class_name, text_of

__all__ = [
    "Job",
    "UserCommand",
    "UserProgram",
    "after_fork",
    "clashes",
    "command",
    "current_job",
    "job_var",
    "program",
    "read_function",
    "registered",
    "spell",
]

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_PROGRAM_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


@dataclass(frozen=True)
class Job:
    """The job that the calling code serves. A retry has the same id and another attempt: with both, tools can be idempotent."""

    id: str
    attempt: int
    session: str | None
    command: str
    worker: str
    budget_ms: int
    call: int
    _emit: Callable[[str | None, str], None] | None = field(default=None, repr=False)
    _ended: Callable[[], bool] = field(default=lambda: False, repr=False)
    _cancelled: Callable[[], bool] = field(default=lambda: False, repr=False)

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the result any more; long loops in threads may look."""
        return self._cancelled()

    def emit(self, chunk: str, field: str | None = None) -> None:
        """Sends partial output to a caller that requested it (`options.stream`); otherwise it goes nowhere.

        Long text is cut into pieces. TypeError, ValueError or RuntimeError when it cannot be sent at all, streamed or not.
        """
        for name, value, kinds in (("chunk", chunk, (str,)), ("field", field, (str, type(None)))):
            if not isinstance(value, kinds):
                raise TypeError(f"emit: {name} must be str{' or None' if len(kinds) > 1 else ''}, got {class_name(value)}")
            if value is not None:
                _spellable(name, value)
        if field is not None and not _FIELD.fullmatch(field):
            raise ValueError(f"emit: field must be a name of at most 64 letters, digits and _.-, got {field[:80]!r}")
        if self._ended():
            raise RuntimeError("emit: the job has ended")
        if self._emit is not None:
            self._emit(field, chunk)


_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")


def _spellable(name: str, text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"emit: {name} must be valid UTF-8 text, got a lone surrogate at {error.start}") from None


job_var: ContextVar[Job] = ContextVar("dspex_job")


def current_job() -> Job:
    """The job that this code runs for, also in threads and thread pools that it started; RuntimeError outside of one."""
    job = job_var.get(None)
    if job is None:
        raise RuntimeError("current_job() outside of a job")
    return job


@dataclass(frozen=True)
class UserCommand:
    """A function of the operator that jobs may call."""

    name: str
    function: Callable[..., Any]
    exclusive: bool
    asynchronous: bool
    hints: Mapping[str, Any]
    required: frozenset[str]
    known: frozenset[str] | None  # None: any name, the function takes **kwargs

    def check(self, args: dict[str, Any], at: str = "args") -> dict[str, Any]:
        """The arguments as the function takes them, in the types of its annotations; refuses what it cannot take, all at once."""
        found = dict(args)
        wrong = [(name, "is missing") for name in sorted(self.required - args.keys())]
        if self.known is not None:
            wrong += [(name[:64], "is unknown") for name in sorted(args.keys() - self.known)]
        for name, value in args.items():
            hint = self.hints.get(name, Any)
            if is_simple(hint):
                if not accepts(hint, value):
                    wrong.append((name, f"must be {spell(hint)}, not {type(value).__name__}"))
            elif (convert := converter(hint)) is not None:
                try:
                    found[name] = convert(value)
                except ValueError as error:
                    wrong.append((name, f"must be {spell(hint)}: {text_of(error)}"))
        if wrong:
            problems = "; ".join(f"{name} {problem}" for name, problem in wrong[:8])
            raise WorkerError("python", "bad_input", f"{self.name}: {problems}", path=f"{at}.{wrong[0][0]}", expected=self._shape())
        return found

    def _shape(self) -> str:
        """The arguments as an error lists them."""
        if self.known is None:
            return "any arguments" + (f", among them {', '.join(sorted(self.required))}" if self.required else "")
        listed = [f"{name}{'' if name in self.required else '?'}: {spell(self.hints.get(name, Any))}" for name in sorted(self.known)]
        return ", ".join(listed) or "no arguments"


@dataclass
class UserProgram:
    """A module object of the operator that execute_program runs."""

    id: str
    target: Any
    per_session: bool = False  # an object for each session, not one for all
    module: Any = None
    inputs: UserCommand | None = None  # None: nothing is known of them
    signature: dict[str, Any] | None = None  # as get_program_info returns it
    made: Any = None  # the object with what was pushed; None: nothing was
    state: dict[str, Any] | None = None  # what was pushed (learnt.py)
    learnt: dict[str, Any] | None = None  # what get_program_info returns of it
    execution_count: int = 0
    last_executed: str | None = None


@dataclass
class Registered:
    """What decorators noted down, in order; names may still clash."""

    commands: list[UserCommand] = field(default_factory=list)
    programs: list[UserProgram] = field(default_factory=list)
    after_fork: list[Callable[[], Any]] = field(default_factory=list)


registered = Registered()


@overload
def command(name: F, /) -> F: ...


@overload
def command(name: str | None = None, *, exclusive: bool = False, inputs: Mapping[str, Any] | None = None) -> Callable[[F], F]: ...


def command(name: Any = None, *, exclusive: bool = False, inputs: Mapping[str, Any] | None = None) -> Any:
    """Makes a function a command. Its keyword arguments are the job's `args`, checked against its signature first.

    name: the command's name, by default the function's. exclusive: nothing else runs in the worker meanwhile.
    inputs: types by argument name, in place of the annotations. Synchronous functions run in threads.
    """

    def note(function: F) -> F:
        chosen = name if isinstance(name, str) else function.__name__
        registered.commands.append(read_function(chosen, function, exclusive, inputs))
        return function

    return note(name) if callable(name) else note


def after_fork(function: Callable[[], Any]) -> Callable[[], Any]:
    """Has a function called in each worker before its first job: for what must not be the same in all of them.

    Workers are forked from a process that has imported the modules, so random generators made at import have the same state.
    """
    if not callable(function) or inspect.iscoroutinefunction(function):
        raise TypeError("@after_fork needs an ordinary function without arguments")
    registered.after_fork.append(function)
    return function


def program(program_id: str, *, per_session: bool = False) -> Callable[[T], T]:
    """Makes a DSPy module (its class or an object of it) a program that execute_program finds under this id.

    per_session: each session has an object of its own, made at its first job in a worker; only a class can be registered so.
    Without it all jobs of a worker share one object, and what they write into `self`.
    """
    if not isinstance(program_id, str) or not _PROGRAM_ID.fullmatch(program_id):
        raise ValueError(f"@program needs an id of letters, digits and _.:- (at most 128), not {program_id!r}")

    def note(target: T) -> T:
        if per_session and not isinstance(target, type):
            raise TypeError(f"@program({program_id!r}, per_session=True) needs a class, of which each session gets an object")
        registered.programs.append(UserProgram(program_id, target, per_session))
        return target

    return note


def read_function(name: str, function: Callable[..., Any], exclusive: bool = False, inputs: Mapping[str, Any] | None = None) -> UserCommand:
    """The command that a function makes; ValueError when no map of arguments can call it."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"a command's name must match [a-z][a-z0-9_]{{0,63}}, not {name!r}")
    required, known, takes_any = set(), set(), False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            takes_any = True
        elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
            raise ValueError(f"command {name}: parameter {parameter} cannot be given by name")
        else:
            known.add(parameter.name)
            if parameter.default is parameter.empty:
                required.add(parameter.name)
    if inputs is not None and not takes_any and set(inputs) - known:
        raise ValueError(f"command {name}: inputs names what the function does not take: {sorted(set(inputs) - known)}")
    hints = dict(inputs) if inputs is not None else _hints(function)
    asynchronous = inspect.iscoroutinefunction(function)
    return UserCommand(name, function, exclusive, asynchronous, hints, frozenset(required), None if takes_any else frozenset(known))


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        hints = typing.get_type_hints(function)
    except Exception:  # a hint that only a type checker can read is no reason to refuse the function
        return {}
    hints.pop("return", None)
    return hints


def _no_converter(hint: Any) -> Callable[[Any], Any] | None:
    return None


converter: Callable[[Any], Callable[[Any], Any] | None] = _no_converter  # an engine that brings pydantic puts its own here

_PLAIN = (str, bool, int, float, bytes, list, dict, None, type(None), Any, object)


def is_simple(hint: Any) -> bool:
    """Whether values of a request have the type as they are."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return True
    if origin in (typing.Union, types.UnionType, list, dict):
        return all(is_simple(arg) for arg in args)
    return any(hint is plain for plain in _PLAIN)


_NUMBERS = {float: (int, float), int: (int,)}


def accepts(hint: Any, value: Any) -> bool:
    """Whether the value is of the simple type; types that are not simple accept everything."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or hint is object:
        return True
    if hint is None or hint is type(None):
        return value is None
    if hint in _NUMBERS:
        return isinstance(value, _NUMBERS[hint]) and not isinstance(value, bool)
    if hint in (str, bool, bytes, list, dict):
        return isinstance(value, hint)
    if origin in (typing.Union, types.UnionType):
        return any(accepts(choice, value) for choice in args)
    if origin is typing.Literal:
        return any(type(choice) is type(value) and choice == value for choice in args)
    if origin is list:
        return isinstance(value, list) and all(accepts(args[0], item) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(accepts(args[1], item) for item in value.values())
    return True


def spell(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint).replace("typing.", "")


def clashes(builtin: set[str]) -> list[str]:
    """What is wrong with the registered names: those of built-in commands, and those given twice."""
    found, seen = [], set(builtin)
    for entry in registered.commands:
        if entry.name in seen:
            what = "is a built-in command" if entry.name in builtin else "is registered twice"
            found.append(f"command {entry.name} {what}")
        seen.add(entry.name)
    ids = [entry.id for entry in registered.programs]
    found += [f"program {name} is registered twice" for name in sorted({name for name in ids if ids.count(name) > 1})]
    return found
