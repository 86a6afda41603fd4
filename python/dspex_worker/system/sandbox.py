"""What this process keeps itself from before it imports any code of a user, for ever and for all that it starts.

The host chooses the level and reports in DSPEX_SANDBOX what goes with it (contract/frame.md). A zygote enters before the
operator's modules are imported. Each worker that it forks enters once more, and is then alone: Landlock lets no process look at,
or signal, one that is not in its own domain. A restriction that cannot be put on ends the start.
"""

from __future__ import annotations

import base64
import ctypes
import json
import os
import resource
import struct
import sys
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from dspex_worker.errors import WorkerError
from dspex_worker.system import process

__all__ = ["channels", "enter", "enter_alone", "level"]

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on all architectures
_PATH_BENEATH = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE, _IOCTL = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14, 1 << 15
_EVERYTHING = (1 << 16) - 1
_MAKE_DEVICES = 1 << 6 | 1 << 11
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_WRITE = _EVERYTHING & ~_MAKE_DEVICES
_SCOPES = 1 << 0 | 1 << 1  # abstract sockets, signals
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")

_PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 22, 24, 38, 47
_FILTER_MODE, _CLEAR_ALL = 2, 4
_CAPABILITY_VERSION = 0x20080522

FILE_BYTES = 1 << 30  # the largest file that a worker may write


@dataclass(frozen=True)
class _Spec:
    level: str
    scratch: str
    read: list[str]
    write: list[str]
    secrets: list[str]
    filter: str


_spec: _Spec | None = None
_for_forks: list[tuple[int, Any]] = []  # of a zygote, made once
_libc: Any = ctypes.CDLL(None, use_errno=True)


def level() -> str:
    """What this process is kept from: none, user or strict."""
    return _spec.level if _spec else "none"


def channels() -> int:
    """How many descriptors a worker has for language models."""
    return 1 if level() == "strict" else 0


def enter(alone: bool) -> None:
    """Enters the sandbox that the host requests; alone means that this process is a worker already. It must have one thread."""
    global _spec
    text = os.environ.pop("DSPEX_SANDBOX", "")
    if not text:
        return
    _spec = _with_python(_Spec(**json.loads(text)))
    _refuse_exposed(_spec)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
    _drop_capabilities()
    _call("prctl(PR_SET_NO_NEW_PRIVS)", _libc.prctl, _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if alone:
        _keep_channel()
    own = _own_directory(_spec)
    if not alone:
        _for_forks.extend(_rules_of_forks(_spec))
    _restrict(_rules(_spec, own if alone else _spec.scratch))
    _filter_calls(base64.b64decode(_spec.filter))


def enter_alone() -> None:
    """In a worker that a sandboxed zygote has forked: leaves the others' reach, and takes a directory of its own."""
    if _spec is not None:
        _keep_channel()
        _restrict([*_for_forks, _rule(_own_directory(_spec), _WRITE)])
        _for_forks.clear()


def _keep_channel() -> None:
    """Programs that this process starts do not call language models."""
    if level() == "strict":
        os.set_inheritable(process.CHANNEL_FD, False)


def _with_python(spec: _Spec) -> _Spec:
    """Adds where this interpreter and its packages are."""
    prefixes = (sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix, os.path.dirname(os.path.realpath(sys.executable)))
    # The file that makes a virtual environment: a Python that a program starts reads it first.
    environment = os.path.join(os.path.dirname(os.path.dirname(sys.executable)), "pyvenv.cfg")
    places = {os.path.realpath(place) for place in (*spec.read, *prefixes, environment, *sys.path) if place and os.path.exists(place)}
    return replace(spec, read=sorted(places))


def _refuse_exposed(spec: _Spec) -> None:
    for secret in spec.secrets:
        for place in (*spec.read, *spec.write):
            if secret == place or secret.startswith(place.rstrip("/") + "/"):
                raise WorkerError(
                    "initialization",
                    "sandbox_exposed",
                    f"the file {secret} holds a secret of the host and lies in {place}, which workers may read",
                    hint="move it where no module, package or --sandbox-read is, or choose --sandbox none",
                )


def _own_directory(spec: _Spec) -> str:
    own = os.path.join(spec.scratch, str(os.getpid()))
    os.makedirs(own, mode=0o700, exist_ok=True)
    for name in ("TMPDIR", "HOME", "XDG_CACHE_HOME", "DSPY_CACHEDIR"):
        os.environ[name] = own
    tempfile = sys.modules.get("tempfile")
    if tempfile is not None:
        tempfile.tempdir = None  # type: ignore[attr-defined] # it looks again
    return own


def _drop_capabilities() -> None:
    for capability in range(64):
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # without the right to, there are none to come back
    _libc.prctl(_PR_CAP_AMBIENT, _CLEAR_ALL, 0, 0, 0)
    header, none = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION, 0)), ctypes.create_string_buffer(24)
    _call("capset", _libc.capset, header, none)


# A place that is open, and the kernel's rule for it (struct landlock_path_beneath_attr).
_Rule = tuple[int, Any]


def _rules(spec: _Spec, scratch: str) -> list[_Rule]:
    """What this process may reach."""
    rules = [_rule(place, _READ) for place in spec.read]
    rules += [_rule(place, _WRITE) for place in (*spec.write, scratch)]
    return rules + [_rule(device, _READ_FILE | _WRITE_FILE | _IOCTL) for device in _DEVICES if os.path.exists(device)]


def _rules_of_forks(spec: _Spec) -> list[_Rule]:
    """What a fork may reach of that, but for a directory of its own: all that does not lie beside such directories.

    It only narrows, so that whole trees do, and a fork has few rules to make: the directories of the root, but for the one that
    holds the workers' directories.
    """
    beside = _top(spec.scratch)
    places = {place if _top(place) == beside else _top(place) for place in (*spec.read, *spec.write, *_DEVICES)}
    return [_rule(place, _EVERYTHING) for place in sorted(places) if os.path.exists(place)]


def _top(place: str) -> str:
    return "/" + place.lstrip("/").split("/", 1)[0]


def _rule(place: str, rights: int) -> _Rule:
    try:
        found = os.open(place, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        _refuse(f"open {place}", error.errno or 0)
    if not os.path.isdir(place):
        rights &= _OF_FILES
    return found, ctypes.create_string_buffer(struct.pack("=Qi", rights, found))


def _restrict(rules: list[_Rule]) -> None:
    """Enters a domain of its own, with these rules, which it closes."""
    # struct landlock_ruleset_attr: files, network, scopes. The network is the filter's.
    attributes = ctypes.create_string_buffer(struct.pack("=QQQ", _EVERYTHING, 0, _SCOPES))
    domain = _syscall("landlock_create_ruleset", _CREATE_RULESET, ctypes.byref(attributes), 24, 0)
    for place, rule in rules:
        _syscall("landlock_add_rule", _ADD_RULE, domain, _PATH_BENEATH, ctypes.byref(rule), 0)
        os.close(place)
    _syscall("landlock_restrict_self", _RESTRICT_SELF, domain, 0)
    os.close(domain)


def _filter_calls(code: bytes) -> None:
    kept = ctypes.create_string_buffer(code, len(code))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(kept)))  # struct sock_fprog
    _call("prctl(PR_SET_SECCOMP)", _libc.prctl, _PR_SET_SECCOMP, _FILTER_MODE, ctypes.c_ulong(ctypes.addressof(program)), 0, 0)


def _syscall(name: str, number: int, *arguments: Any) -> int:
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return _call(name, _libc.syscall, ctypes.c_long(number), *wide)


def _call(name: str, function: Any, *arguments: Any) -> int:
    result: int = function(*arguments)
    if result < 0:
        _refuse(name, ctypes.get_errno())
    return result


def _refuse(what: str, number: int) -> NoReturn:
    raise WorkerError(
        "initialization",
        "sandbox_failed",
        f"the sandbox cannot be put on: {what}: {os.strerror(number)}",
        hint="--sandbox none does without",
    )
