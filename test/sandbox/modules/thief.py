"""A module that tries to take what is not its own. Each theft answers with what it got, or with "kept: " and why it got nothing.

The tests run it without a sandbox, too, and as root: no theft may do harm where it succeeds.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dspex_worker import command

_libc = ctypes.CDLL(None, use_errno=True)

MOUNT, UNSHARE, PTRACE = (165, 272, 101) if platform.machine() == "x86_64" else (40, 97, 117)


def _syscall(number: int, *arguments: Any) -> int:
    result: int = _libc.syscall(*[ctypes.c_long(a) if isinstance(a, int) else a for a in (number, *arguments)])
    if result < 0:
        raise OSError(ctypes.get_errno(), "syscall")
    return result


def _parent(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("PPid:")[1].split()[0])


def _family() -> tuple[int, int, list[int]]:
    """The host, the parent of the workers, and the other workers."""
    parent = os.getppid()
    name = Path(f"/proc/{parent}/comm").read_text().strip()
    host = parent if name == "worker-host" else _parent(parent)
    siblings = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) not in (os.getpid(), parent):
            try:
                if _parent(int(entry)) == parent:
                    siblings.append(int(entry))
            except OSError:
                continue
    return host, parent, siblings


def _loot(theft: Callable[[], Any]) -> str:
    try:
        return f"TAKEN: {theft()!r}"[:500]
    except OSError as error:
        return f"kept: {error.strerror}"


def _search_environments(secret: str) -> str:
    for entry in os.listdir("/proc"):
        for file in ("environ", "cmdline"):
            try:
                if entry.isdigit() and secret in Path(f"/proc/{entry}/{file}").read_text(errors="replace"):
                    return f"TAKEN: in {file} of {Path(f'/proc/{entry}/comm').read_text()}"
            except OSError:
                continue
    return "kept: nowhere"


def _read_memory(pid: int) -> bytes:
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        span, rights = line.split()[:2]
        if rights.startswith("rw"):
            with open(f"/proc/{pid}/mem", "rb", 0) as memory:
                memory.seek(int(span.split("-")[0], 16))
                return memory.read(16)
    raise OSError(0, "no memory is mapped")


def _read_from_afar(pid: int) -> int:
    buffer = ctypes.create_string_buffer(8)
    local = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), 8)
    remote = (ctypes.c_void_p * 2)(0x400000, 8)
    result: int = _libc.process_vm_readv(pid, local, 1, remote, 1, 0)
    number = ctypes.get_errno()
    if result < 0:
        raise OSError(number, os.strerror(number))
    return result


def _may(number: int, *arguments: Any) -> str:
    """Whether a system call is let through; the arguments are such that it does nothing then."""
    if _libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments)) < 0 and ctypes.get_errno() == errno.EPERM:
        raise PermissionError(errno.EPERM, "Operation not permitted")
    return "it is let through"


def _take_descriptors(pid: int) -> list[str]:
    """Opens again what the process has open."""
    taken = []
    for number in range(64):
        for flags in (os.O_RDONLY | os.O_NONBLOCK, os.O_WRONLY | os.O_NONBLOCK):
            try:
                os.close(os.open(f"/proc/{pid}/fd/{number}", flags))
                taken.append(os.readlink(f"/proc/{pid}/fd/{number}"))
            except OSError:
                continue
    if not taken:
        raise OSError(0, "none opens")
    return taken


def _copy_descriptor(pid: int) -> int:
    return _syscall(438, os.pidfd_open(pid), 3, 0)  # pidfd_getfd


def _files(pid: int) -> list[str]:
    """What lies in another worker's directory, as it would be beside this one's."""
    own = os.environ.get("TMPDIR", "/tmp/none")
    return os.listdir(os.path.join(os.path.dirname(own), str(pid)))


def _write(path: str) -> str:
    with open(path, "a"):
        return path


def _connect(path: str) -> str:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        return path


@command
def environments(secret: str) -> dict[str, str]:
    """Looks for the secret in what all processes of the machine were given."""
    return {"environments": _search_environments(secret)}


@command
def steal(secret: str, key_file: str, module: str, place: str, socket_file: str) -> dict[str, str]:
    """All that level user claims to keep."""
    host, parent, siblings = _family()
    thefts: dict[str, Callable[[], Any]] = {
        "key file": lambda: Path(key_file).read_text(),
        "shadow": lambda: Path("/etc/shadow").read_text()[:1],
        "write module": lambda: _write(module),
        "write runtime": lambda: _write(__import__("dspex_worker").__file__),
        "write elsewhere": lambda: _write(os.path.join(place, "loot")),
        "write kernel": lambda: _write("/proc/sys/kernel/core_pattern"),
        "socket file": lambda: _connect(socket_file),
        "mount": lambda: _may(MOUNT, 0, 0, 0, 0, 0),
        "unshare": lambda: _may(UNSHARE, 0),
        "trace": lambda: _may(PTRACE, 2, host, 0, 0),  # looks into a process that is not traced
    }
    others = {"host": host, "parent": parent}
    others |= {f"worker {n}": pid for n, pid in enumerate(siblings)}
    for name, pid in others.items():
        thefts |= {
            f"environment of {name}": lambda pid=pid: Path(f"/proc/{pid}/environ").read_text(),
            f"memory of {name}": lambda pid=pid: _read_memory(pid),
            f"memory of {name} from afar": lambda pid=pid: _read_from_afar(pid),
            f"descriptors of {name}": lambda pid=pid: _take_descriptors(pid),
            f"a descriptor of {name}": lambda pid=pid: _copy_descriptor(pid),
            f"signal {name}": lambda pid=pid: os.kill(pid, 0),
            f"signal the group of {name}": lambda pid=pid: os.killpg(os.getpgid(pid), 0),
            f"limits of {name}": lambda pid=pid: resource.prlimit(pid, resource.RLIMIT_NOFILE),
            f"files of {name}": lambda pid=pid: _files(pid),
        }
    found = {name: _loot(theft) for name, theft in thefts.items()}
    found["environments"] = _search_environments(secret)
    status = Path("/proc/self/status").read_text()
    for name, want in (("CapEff", "0" * 16), ("CapBnd", "0" * 16), ("NoNewPrivs", "1"), ("Seccomp", "2")):
        value = status.split(f"{name}:")[1].split()[0]
        if value != want and not (name == "CapBnd" and os.geteuid()):
            found[name] = f"TAKEN: {value}"
    return found


@command
def works() -> dict[str, object]:
    """What must go on working: files of its own, programs, threads, signals to its own, random numbers, time."""
    import subprocess
    import sys
    import tempfile
    import threading

    with tempfile.NamedTemporaryFile() as file:
        file.write(b"x")
    home = os.path.expanduser("~/own")
    Path(home).write_text("own")
    child = subprocess.Popen(["sleep", "60"])
    child.send_signal(signal.SIGKILL)
    python = subprocess.run([sys.executable, "-I", "-c", "import json; print('ran')"], check=False, capture_output=True, text=True)
    ran = []
    thread = threading.Thread(target=lambda: ran.append(1))
    thread.start()
    thread.join()
    pair = socket.socketpair()
    for end in pair:
        end.close()
    return {
        "home": Path(home).read_text(), "child": child.wait(), "thread": ran == [1], "random": len(os.urandom(4)), "user": os.geteuid(),
        "python": python.stdout.strip() or python.stderr[-300:],
    }  # fmt: skip


@command
def search_memory(backwards: str) -> dict[str, str]:
    """Looks for a secret in this process's own memory; it comes backwards, or its argument would be found."""
    secret = backwards[::-1].encode()
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for line in maps.read().splitlines():
            span, rights = line.split()[:2]
            start, end = (int(edge, 16) for edge in span.split("-"))
            if not rights.startswith("rw"):
                continue
            try:
                memory.seek(start)
                # This function holds the secret itself: what stands alone in an object of its size is not a find.
                if memory.read(end - start).count(b"Bearer " + secret) or _in_profile(secret.decode()):
                    return {"key": "TAKEN: from memory"}
            except (OSError, ValueError):
                continue
    return {"key": "kept: it is not here"}


def _in_profile(secret: str) -> bool:
    """Whether an object of the worker holds it, as a profile does."""
    import gc

    return any(isinstance(found, dict) and found.get("api_key") == secret for found in gc.get_objects())


@command
def escape(address: str, socket_file: str) -> dict[str, str]:
    """Looks for a way out, and for other uses of the way to the models."""
    host, _, port = address.rpartition(":")

    def connect(family: int, kind: int, to: Any) -> str:
        with socket.socket(family, kind) as out:
            out.connect(to)
            return str(to)

    def datagram() -> str:
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        one.sendto(b"x", socket_file)
        return f"{one} {other}"

    def again() -> str:
        one, _ = socket.socketpair()
        one.connect(socket_file)
        return str(one)

    found = {
        "tcp": _loot(lambda: connect(socket.AF_INET, socket.SOCK_STREAM, (host, int(port)))),
        "udp": _loot(lambda: connect(socket.AF_INET, socket.SOCK_DGRAM, (host, int(port)))),
        "netlink": _loot(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)),
        "socket file": _loot(lambda: connect(socket.AF_UNIX, socket.SOCK_STREAM, socket_file)),
        "datagrams": _loot(datagram),
        "another peer": _loot(again),
        "names": _loot(lambda: socket.getaddrinfo("localhost.invalid", 80)),
        "io_uring": "kept: no such call" if _libc.syscall(425, 1, 0) < 0 and ctypes.get_errno() == errno.ENOSYS else "TAKEN: a ring",
        "program": _loot(lambda: _by_program(address)),
    }
    for name, request in (
        ("nowhere", "POST / HTTP/1.1"),
        ("unknown endpoint", f"POST /{'0' * 32}/v1 HTTP/1.1"),
        ("as a proxy", f"POST http://{address}/ HTTP/1.1"),
        ("tunnel", f"CONNECT {address} HTTP/1.1"),
    ):
        found[name] = _loot(lambda request=request: _ask(request, address))
    return found


def _by_program(address: str) -> str:
    import subprocess
    import sys

    code = f"import socket; socket.create_connection({tuple(address.rsplit(':', 1))!r})"
    if subprocess.run([sys.executable, "-I", "-c", code], check=False, capture_output=True).returncode:
        raise PermissionError(errno.EPERM, "it fails")
    return address


def _ask(request: str, address: str) -> str:
    ours, theirs = socket.socketpair()
    with theirs, socket.socket(fileno=5) as channel:
        try:
            socket.send_fds(channel, [b"c"], [theirs.fileno()])
        finally:
            channel.detach()
    with ours:
        ours.sendall(f"{request}\r\nHost: {address}\r\nContent-Length: 0\r\n\r\n".encode())
        answer = ours.recv(4096).decode()
    if " 403 " not in answer.splitlines()[0]:
        return answer
    raise PermissionError(errno.EPERM, "forbidden")
