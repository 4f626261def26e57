"""The parent's side of its children: fork, relay, cancel, reap. Nothing here ever waits."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any

from .child import become_child, serve
from .wire import Wire

# From TERM to KILL.
_GRACE_S = 2.0
_LEAF_ENDS = ("leaf_done", "leaf_invalid", "leaf_failed", "error")


class Child:
    """A forked process and the requests that it has been given, in order; the first is the one in progress."""

    def __init__(self, pid: int, wire: Wire, resident: str | None) -> None:
        self.pid = pid
        self.wire = wire
        self.resident = resident
        self.requests: deque[dict[str, Any]] = deque()
        self.leaf: str | None = None
        self.cancelled = False
        self.answered = False
        self.cpu_s = 0.0
        self.kill_at: float | None = None

    def signal(self, number: int) -> None:
        """To the whole group; to the process alone as long as it has not founded one."""
        for send in (os.killpg, os.kill):
            try:
                send(self.pid, number)
            except ProcessLookupError:
                continue


class Children:
    """All living children. `private` are descriptors that a child must not keep."""

    def __init__(self, say: Wire, private: Callable[[], list[int]]) -> None:
        self._say = say
        self._private = private
        self._children: dict[int, Child] = {}
        # Requests for a resident model whose predecessor has not ended yet.
        self._waiting: list[dict[str, Any]] = []

    def wires(self) -> list[Wire]:
        return [child.wire for child in self._children.values()]

    def start(self, request: dict[str, Any]) -> None:
        """Forks a child for a request, or hands it to the resident child of its name."""
        name = request.get("resident")
        if name is None:
            self._fork(request)
            return
        residents = [child for child in self._children.values() if child.resident is not None]
        for child in residents:
            if child.resident == name and child.wire.output is not None:
                child.requests.append(request)
                child.wire.send(request)
                if len(child.requests) == 1:
                    self._say_started(child)
                return
        for child in residents:
            self._retire(child)
        if residents:
            self._waiting.append(request)
        else:
            self._fork(request)

    def cancel(self, request_id: str) -> None:
        """TERM, then KILL, to the group of the child that has this request. A request that waits ends at once."""
        for request in [waiting for waiting in self._waiting if waiting["id"] == request_id]:
            self._waiting.remove(request)
            self._say_ended(request_id, cancelled=True)
        for child in self._children.values():
            if any(request["id"] == request_id for request in child.requests):
                child.cancelled = True
                child.kill_at = time.monotonic() + _GRACE_S
                child.signal(signal.SIGTERM)

    def relay(self, child_input: int) -> None:
        """Passes on what the child at this descriptor has said."""
        for child in self._children.values():
            if child.wire.input == child_input:
                for line in child.wire.receive()[0]:
                    self._pass_on(child, line)
                return

    def reap(self) -> None:
        """Says the last word about every child that has ended, and ends what it left in its group."""
        for pid in list(self._children):
            ended, status, usage = os.wait4(pid, os.WNOHANG)
            if ended == 0:
                continue
            child = self._children.pop(pid)
            child.signal(signal.SIGKILL)
            self._drain(child)
            child.wire.close()
            code = os.waitstatus_to_exitcode(status)
            for request in child.requests:
                if request["type"] == "plan":
                    self._say_unplanned(child, request["id"], code)
                    continue
                self._say_ended(
                    request["id"],
                    exit_code=code if code >= 0 else None,
                    signal_name=signal.Signals(-code).name if code < 0 else None,
                    cancelled=child.cancelled,
                    leaf=child.leaf,
                    cpu_s=round(max(0.0, usage.ru_utime + usage.ru_stime - child.cpu_s), 3),
                    max_rss_bytes=usage.ru_maxrss * 1024,
                )
                child.leaf = None
        if not any(child.resident is not None for child in self._children.values()):
            waiting, self._waiting = self._waiting, []
            for request in waiting:
                self.start(request)

    def seconds_to_deadline(self) -> float | None:
        """Until `enforce` has something to do."""
        deadlines = [child.kill_at for child in self._children.values() if child.kill_at is not None]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def enforce(self) -> None:
        for child in self._children.values():
            if child.kill_at is not None and time.monotonic() >= child.kill_at:
                child.signal(signal.SIGKILL)
                child.kill_at = time.monotonic() + _GRACE_S

    def kill_all(self) -> None:
        for child in self._children.values():
            child.signal(signal.SIGKILL)

    def _fork(self, request: dict[str, Any]) -> None:
        resident = request.get("resident")
        from_child, to_parent = os.pipe()
        to_child = os.pipe() if resident is not None else None
        sys.stdout.flush()
        sys.stderr.flush()
        parent_pid, pid = os.getpid(), os.fork()
        if pid == 0:
            code = 1
            try:
                become_child(parent_pid)
                for fd in [*self._private(), from_child, *(to_child or ())[1:]]:
                    os.close(fd)
                serve(request, to_parent, Wire(to_child[0], None) if to_child else None)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        os.close(to_parent)
        if to_child is not None:
            os.close(to_child[0])
        child = Child(pid, Wire(from_child, to_child[1] if to_child else None), resident)
        self._children[pid] = child
        child.requests.append(request)
        self._say_started(child)

    def _retire(self, child: Child) -> None:
        """A resident child ends when its requests are done; an idle one at once."""
        child.wire.close_output()
        if not child.requests:
            child.kill_at = time.monotonic() + _GRACE_S

    def _drain(self, child: Child) -> None:
        while True:
            lines, ended = child.wire.receive()
            for line in lines:
                self._pass_on(child, line)
            # Whoever inherited the pipe may hold it open: an empty one is enough.
            if ended or not lines:
                return

    def _pass_on(self, child: Child, line: bytes) -> None:
        # The task tree is long, and none of our business.
        planned = line.startswith(b'{"type":"planned"')
        message = {"type": "planned"} if planned else json.loads(line)
        kind = message["type"]
        child.answered = child.answered or kind in ("planned", "error")
        if kind == "finished":
            self._finish(child, message)
            return
        if kind == "leaf_started":
            child.leaf = message["leaf"]
        elif kind in _LEAF_ENDS:
            child.leaf = None
        self._say.send_line(line + b"\n")

    def _finish(self, child: Child, message: dict[str, Any]) -> None:
        """A resident child has done a request and lives on."""
        child.requests.popleft()
        self._say_ended(
            message["id"],
            exit_code=0,
            cpu_s=round(message["cpu_s"] - child.cpu_s, 3),
            max_rss_bytes=message["max_rss_bytes"],
        )
        child.cpu_s = message["cpu_s"]
        if child.requests:
            self._say_started(child)

    def _say_started(self, child: Child) -> None:
        if child.requests[0]["type"] == "run":
            self._say.send({"type": "started", "id": child.requests[0]["id"], "pid": child.pid})

    def _say_unplanned(self, child: Child, request_id: str, code: int) -> None:
        if child.answered:
            return
        how = "was cancelled" if child.cancelled else f"ended with {_exit_name(code)}"
        message = f"The process that planned {how}"
        self._say.send(
            {
                "type": "error",
                "id": request_id,
                "class": "crash",
                "permanent": False,
                "message": message,
                "trace_tail": [],
            }
        )

    def _say_ended(
        self,
        request_id: str,
        *,
        exit_code: int | None = None,
        signal_name: str | None = None,
        cancelled: bool = False,
        leaf: str | None = None,
        cpu_s: float = 0.0,
        max_rss_bytes: int = 0,
    ) -> None:
        self._say.send(
            {
                "type": "ended",
                "id": request_id,
                "exit_code": exit_code,
                "signal": signal_name,
                "cancelled": cancelled,
                "leaf": leaf,
                "cpu_s": cpu_s,
                "max_rss_bytes": max_rss_bytes,
            }
        )


def _exit_name(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
