"""The zygote: workers forked from it are as good as others, end with it, and are never forked beside a second thread."""

from __future__ import annotations

import os
import select
import signal
import sys
from pathlib import Path

import pytest

from dspex_worker.protocol.frames import FrameType
from tests.client import PATIENCE, Failed
from tests.zygote_client import ZygoteProcess

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a zygote needs Linux; elsewhere hosts start each worker by itself")


def has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(PATIENCE * 1000))


def test_a_forked_worker_serves_like_any_other() -> None:
    with ZygoteProcess(imports=["sample_commands"]) as zygote:
        ready = zygote.ready()
        with zygote.worker("forked-one") as first, zygote.worker("forked-two", worker="host/2") as second:
            assert (first.hello[7], second.hello[7]) == ("forked-one", "forked-two")
            assert first.hello[6] == first.pid != second.pid
            assert first.hello[3] == zygote.hello[3]
            assert first.ready()[:5] == second.ready()[:5] == ready[:5]
            assert first.value("append", {"x": 1}, session="s")["list"] == [1]
            assert first.value("append", {"x": 2}, session="s")["list"] == [1, 2]
            assert second.value("append", {"x": 3}, session="s")["list"] == [3]
            assert first.value("ping")["worker_id"] == "host/1"
            assert second.value("who_in_thread", job="j")["main"] is False
            assert second.value("print", {"text": "hello"}) == {"printed": 5}
            assert "hello" in second.printed()
            assert "hello" not in first.printed() + zygote.printed()
            for worker in (first, second):
                worker.send(FrameType.SHUTDOWN, 0, [1000])
                assert worker.expect(FrameType.BYE) == ["shutdown"]
                assert worker.wait() == 0


def test_a_forked_worker_holds_nothing_of_the_zygote() -> None:
    with ZygoteProcess(imports=["inspecting"]) as zygote:
        zygote.ready()
        with zygote.worker() as one, zygote.worker() as two:
            found = []
            for worker in (one, two):
                worker.ready()
                found.append(worker.value("inside"))
                assert os.getpgid(worker.pid) == worker.pid
            first, second = found
            assert first["random"] != second["random"]
            assert first["gc"] and first["threads"] == ["MainThread", "dspex-block-watch", "dspex-host-watch"]
            assert first["frozen"] > 1000
            assert not first["sockets"], "the zygote's control socket is open in its worker"
            assert first["environment"] == ["DSPEX_NONCE"]


def test_workers_differ_in_what_is_random_but_for_what_a_module_keeps() -> None:
    """docs/your-modules.md says so: a generator made at import is copied, unless the module asks to be told."""
    with ZygoteProcess(imports=["randomness"]) as zygote:
        zygote.ready()
        with zygote.worker() as first, zygote.worker(worker="host/2") as second:
            one, two = (worker.value("draw") for worker in (first, second) if worker.ready())
            assert one["copied"] == two["copied"]
            assert all(one[name] != two[name] for name in ("own", "global", "uuid"))


def test_workers_differ_in_what_numpy_draws_but_for_what_a_module_keeps() -> None:
    """With one thread, as a host starts its workers: else numpy's linear algebra starts some at its import."""
    with ZygoteProcess(imports=["numpy_randomness"], env={"OMP_NUM_THREADS": "1"}) as zygote:
        zygote.ready()
        with zygote.worker() as first, zygote.worker(worker="host/2") as second:
            one, two = (worker.value("draw") for worker in (first, second) if worker.ready())
            assert all(one[name] == two[name] for name in ("copied", "old"))
            assert all(one[name] != two[name] for name in ("own", "global"))


def test_a_forked_worker_tells_its_own_memory() -> None:
    with ZygoteProcess(imports=["keeping_files"]) as zygote:
        zygote.ready()
        with zygote.worker() as worker:
            worker.ready()
            opened = [os.readlink(link) for link in Path(f"/proc/{worker.pid}/fd").iterdir()]
            assert f"/proc/{worker.pid}/statm" in opened
            assert f"/proc/{zygote.pid}/statm" not in opened


def test_exits_are_told_with_status_or_signal_and_reaped_when_the_host_says_so() -> None:
    with ZygoteProcess() as zygote:
        zygote.ready()
        for command, args, status in (("exit", {"code": 9}, 9), ("kill", {"signal": 11}, -11), ("kill", {"signal": 9}, -9)):
            with zygote.worker() as worker:
                worker.ready()
                worker.start_call(command, args)
                assert zygote.expect(FrameType.EXITED) == [worker.pid, max(status, 0), max(-status, 0)]
                assert "Z" in Path(f"/proc/{worker.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
                zygote.send(FrameType.REAP, 0, [worker.pid])
                with zygote.worker() as next_one:  # answered after the REAP
                    assert not Path(f"/proc/{worker.pid}").exists()
                    worker.status = zygote.exits[worker.pid] = status
                    next_one.ready()


@pytest.mark.parametrize("how", ["hang up", "kill", "terminate", "garbage"])
def test_with_the_zygote_its_workers_end(how: str) -> None:
    with ZygoteProcess(imports=["misbehaving", "sample_commands"]) as zygote:
        zygote.ready()
        worker, stuck = zygote.worker(), zygote.worker()
        worker.ready()
        stuck.ready()
        grandchild = os.pidfd_open(worker.value("child_process"))
        stuck.start_call("hold_gil", options={"stream": True})
        stuck.expect(FrameType.CHUNK)
        if how == "hang up":
            zygote.socket.close()
        elif how == "garbage":
            zygote.socket.send(b"this is no frame")
        else:
            os.kill(zygote.pid, signal.SIGKILL if how == "kill" else signal.SIGTERM)
        assert zygote.wait() == {"hang up": 0, "terminate": 0, "garbage": 4, "kill": -9}[how]
        assert has_ended(worker.pidfd)
        assert has_ended(stuck.pidfd), "a worker that holds the interpreter's lock outlived its zygote"
        if how == "kill":  # then it is the host that ends the rest of the group
            os.killpg(worker.pid, signal.SIGKILL)
        assert has_ended(grandchild)
        os.close(grandchild)
        worker.status = stuck.status = -9
        for one in (worker, stuck):
            with one:
                pass


def test_beside_a_second_thread_nothing_is_forked() -> None:
    with ZygoteProcess(imports=["threaded"]) as zygote:
        zygote.ready()
        before = len(os.listdir(f"/proc/{zygote.pid}/fd"))
        for _ in range(3):
            with open(os.devnull) as null, pytest.raises(Failed, match=r"2 threads .*MainThread, poller") as refused:
                zygote.fork("nonce", [null.fileno()] * 4)
            assert (refused.value.category, refused.value.code) == ("initialization", "fork_refused")
        assert len(os.listdir(f"/proc/{zygote.pid}/fd")) == before


def test_a_zygote_that_cannot_load_says_why() -> None:
    with ZygoteProcess(imports=["broken_import"]) as zygote:
        with pytest.raises(Failed, match="no such licence") as failed:
            zygote.ready()
        assert failed.value.code == "import_failed"
        assert zygote.wait() == 3


def test_a_worker_that_is_to_be_different_is_refused() -> None:
    with ZygoteProcess() as zygote:
        zygote.ready()
        with zygote.worker(imports=["sample_commands"]) as worker:
            kind, _, (_, code, *_) = worker.receive()
            assert (kind, code) == (FrameType.ERROR, "bad_config")
            assert worker.wait() == 3


def test_many_workers_leave_nothing_in_the_zygote() -> None:
    with ZygoteProcess() as zygote:
        zygote.ready()
        open_before = sorted(os.listdir(f"/proc/{zygote.pid}/fd"))
        for _ in range(50):
            with zygote.worker() as worker:
                worker.start_call("exit", {"code": 1})
                assert worker.wait() == 1
        with zygote.worker() as last:
            last.ready()
            children = Path(f"/proc/{zygote.pid}/task/{zygote.pid}/children").read_text().split()
            assert children == [str(last.pid)]
            assert sorted(os.listdir(f"/proc/{zygote.pid}/fd")) == open_before


def test_started_by_hand_it_says_what_it_is_for() -> None:
    import subprocess

    from tests.client import BOOT

    found = subprocess.run([sys.executable, "-I", "-c", BOOT], env={"DSPEX_ZYGOTE": "1"}, capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert "started by a worker-host" in found.stderr
    assert "Traceback" not in found.stderr
