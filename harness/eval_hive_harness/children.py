"""The parent's side of its children: fork, relay, cancel, reap. Nothing here ever waits, but for the end."""

from __future__ import annotations

import contextlib
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
from .child_state import CLASS_OF_TIMED_PHASE, NAP_S, Awake, Child
from .wire import Wire

# From TERM to KILL.
_GRACE_S = 2.0
# For a child that takes too long: to write down where it is.
_LAST_WORDS_S = 1.0
_LEAF_FAILURES = ("leaf_invalid", "leaf_failed", "error")
_LEAF_ENDS = ("leaf_done", *_LEAF_FAILURES)


class Children:
    """All living children. `private` are descriptors that a child must not keep."""

    def __init__(self, say: Wire, private: Callable[[], list[int]]) -> None:
        self._say = say
        self._private = private
        self._children: dict[int, Child] = {}
        # Requests for a resident child, which takes one at a time; there is at most one such child.
        self._waiting: deque[dict[str, Any]] = deque()
        self._awake = Awake()

    def wires(self) -> list[Wire]:
        return [child.wire for child in self._children.values()]

    def start(self, request: dict[str, Any]) -> None:
        """Gives a request to a child that is free for it, or to a new one; or lets it wait for the resident child."""
        if request["type"] == "plan":
            self._fork(request)
            return
        if request["resident"] is not None:
            self._waiting.append(request)
            self._advance()
            return
        free = (child for child in self._children.values() if child.could_take(request))
        if (child := next(free, None)) is not None:
            self._hand_over(child, request)
        else:
            self._dismiss_others(request)
            self._fork(request)

    def go(self, request_id: str) -> None:
        """Tells the child that is held with this request that its turn has come."""
        for child in self._children.values():
            if child.request is not None and child.request["id"] == request_id:
                # Whoever gets it when this child has died before it saw it.
                child.request["held"] = False
                child.wire.queue({"type": "go", "id": request_id})
                self.flush(child.wire)

    def cancel(self, request_id: str) -> None:
        """TERM, then KILL, to the group of the child that has this request. A request that waits ends at once."""
        for request in [waiting for waiting in self._waiting if waiting["id"] == request_id]:
            self._waiting.remove(request)
            self._say_ended(request_id, cancelled=True)
        for child in self._children.values():
            if child.request is not None and child.request["id"] == request_id:
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

    def flush(self, wire: Wire) -> None:
        """Sends a child what it could not take before. One that has died is reaped elsewhere."""
        try:
            wire.flush()
        except BrokenPipeError:
            wire.close_output()

    def reap(self) -> None:
        """Says the last word about every child that has ended, and ends what it left in its group. Sees who was stopped."""
        for pid in list(self._children):
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                self._see_whether_stopped(self._children[pid])
                continue
            child = self._children.pop(pid)
            # As long as it is not waited for, no other process can get its number.
            child.signal(signal.SIGKILL)
            _, status, usage = os.wait4(pid, 0)
            self._drain(child)
            child.wire.close()
            self._conclude(child, os.waitstatus_to_exitcode(status), usage)
        self._advance()

    def seconds_to_deadline(self) -> float | None:
        """Until `enforce` has something to do."""
        now, waits = self._awake.now(), []
        for child in self._children.values():
            if child.kill_at is not None:
                waits.append(child.kill_at - time.monotonic())
            elif (late_at := child.late_at()) is not None:
                waits.append(min(late_at - now, NAP_S))
        return max(0.0, min(waits)) if waits else None

    def enforce(self) -> None:
        now = self._awake.now()
        for child in self._children.values():
            if child.kill_at is not None:
                if time.monotonic() >= child.kill_at:
                    child.signal(signal.SIGKILL)
                    child.kill_at = time.monotonic() + _GRACE_S
            elif (late_at := child.late_at()) is not None and now >= late_at:
                if child.stopped_since is not None:
                    self._end_stopped(child)
                elif child.idle_since is not None:
                    self._dismiss(child)
                else:
                    self._end_late(child)

    def kill_all(self) -> None:
        """The end: waits for them, too, as what they have cost counts. Whoever can't wait for that kills us."""
        for child in self._children.values():
            child.signal(signal.SIGKILL)
        for pid in self._children:
            os.waitpid(pid, 0)

    def _see_whether_stopped(self, child: Child) -> None:
        stopped = os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None
        if not stopped:
            child.stopped_since = None
        elif child.stopped_since is None:
            child.stopped_since = self._awake.now()

    def _end_stopped(self, child: Child) -> None:
        self._see_whether_stopped(child)
        if child.stopped_since is not None:
            child.was_stopped = True
            child.signal(signal.SIGKILL)
            child.kill_at = time.monotonic() + _GRACE_S

    def _end_late(self, child: Child) -> None:
        """Its leaf has failed; the others of its batch are for another child."""
        assert child.request is not None and child.phase is not None
        limit_s = child.request["phase_timeout_s"]
        message = {
            "class": CLASS_OF_TIMED_PHASE[child.phase],
            "permanent": False,
            "message": f"{child.phase.capitalize()} took longer than {limit_s / 60:g} minutes; the log of the harness says "
            "where it stood. If it needs longer, raise eval.phase_timeout_minutes",
            "trace_tail": [],
        }
        self._say.send({"type": "leaf_failed", "id": child.request["id"], "leaf": child.leaf, **message})
        child.leaf = child.phase = None
        child.was_late = True
        # See child.py: it writes down where it is.
        child.signal(signal.SIGUSR1)
        child.kill_at = time.monotonic() + _LAST_WORDS_S

    def _advance(self) -> None:
        """Gives the first waiting request to a child that has its model, as soon as there is one."""
        if not self._waiting:
            return
        child = next((child for child in self._children.values() if child.is_resident), None)
        if child is None:
            self._fork(self._waiting.popleft())
        elif child.request is not None or child.wire.output is None:
            return
        elif child.has_model_for(self._waiting[0]):
            self._hand_over(child, self._waiting.popleft())
        else:
            # Two models at a time might not fit.
            self._dismiss(child)

    def _hand_over(self, child: Child, request: dict[str, Any]) -> None:
        """To a child that is free."""
        child.request, child.has_taken, child.idle_since = request, False, None
        child.wire.queue(request)
        self.flush(child.wire)

    def _dismiss_others(self, request: dict[str, Any]) -> None:
        """Those that are free and have another model: what comes now may need their memory."""
        for child in self._children.values():
            if child.idle_since is not None and not child.is_resident and not child.has_model_for(request):
                self._dismiss(child)

    def _dismiss(self, child: Child) -> None:
        """The end of its requests."""
        child.wire.close_output()
        child.idle_since = None
        child.kill_at = time.monotonic() + _GRACE_S

    def _fork(self, request: dict[str, Any]) -> None:
        from_child, to_parent = os.pipe()
        to_child = os.pipe() if request["type"] == "run" else None
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
                with contextlib.suppress(OSError):
                    traceback.print_exc()
            finally:
                with contextlib.suppress(OSError):
                    sys.stdout.flush()
                    sys.stderr.flush()
                # In any case: what follows is the parent's.
                os._exit(code)
        os.close(to_parent)
        if to_child is not None:
            os.close(to_child[0])
        child = Child(pid, Wire(from_child, to_child[1] if to_child else None), request)
        self._children[pid] = child
        self._say_started(child)

    def _drain(self, child: Child) -> None:
        while True:
            lines, ended = child.wire.receive()
            for line in lines:
                self._pass_on(child, line)
            # Whoever inherited the pipe may hold it open: an empty one is enough.
            if ended or not lines:
                return

    def _pass_on(self, child: Child, line: bytes) -> None:
        if child.was_late:
            # Its leaf has failed, and nothing follows.
            return
        # The task tree is long, and none of our business.
        planned = line.startswith(b'{"type":"planned"')
        message = {"type": "planned"} if planned else json.loads(line)
        kind = message["type"]
        if kind == "taken":
            child.has_taken = True
            self._say_started(child)
            return
        if kind == "finished":
            is_fit = child.is_resident or child.record.is_fit(self._awake.now(), message["max_rss_bytes"])
            # One that is cancelled is on its way out.
            if is_fit and not child.cancelled:
                self._finish(child, message)
            else:
                # It ends, and that is its last word on the request.
                child.wire.close_output()
            return
        if kind in _LEAF_FAILURES:
            child.record.fail()
        child.answered = child.answered or kind in ("planned", "error")
        if kind == "leaf_started":
            child.leaf = message["leaf"]
        elif kind in _LEAF_ENDS:
            child.leaf = child.phase = None
        elif kind == "progress" and child.leaf is not None and message["phase"] != child.phase:
            child.phase, child.phase_since = message["phase"], self._awake.now()
        self._say.send_line(line + b"\n")

    def _finish(self, child: Child, message: dict[str, Any]) -> None:
        """A child has done a request and lives on."""
        child.request = None
        child.idle_since = self._awake.now()
        self._say_ended(
            message["id"],
            exit_code=0,
            cpu_s=round(message["cpu_s"] - child.cpu_s, 3),
            max_rss_bytes=message["max_rss_bytes"],
        )
        child.cpu_s = message["cpu_s"]
        self._advance()

    def _conclude(self, child: Child, code: int, usage: Any) -> None:
        """The last word on the request in the hands of a child that has ended."""
        request = child.request
        if request is None:
            return
        if request["type"] == "plan":
            self._say_unplanned(child, request["id"], code)
        elif not child.has_taken and not child.cancelled:
            # It died before it saw the request: another child will.
            if child.is_resident:
                self._waiting.appendleft(request)
            else:
                self._fork(request)
        else:
            self._say_ended(
                request["id"],
                exit_code=code if code >= 0 else None,
                signal_name=_signal_name(child, code),
                cancelled=child.cancelled,
                leaf=child.leaf,
                cpu_s=round(max(0.0, usage.ru_utime + usage.ru_stime - child.cpu_s), 3),
                max_rss_bytes=usage.ru_maxrss * 1024,
            )

    def _say_started(self, child: Child) -> None:
        if child.request is not None and child.request["type"] == "run":
            child.record.begin(child.request, self._awake.now())
            self._say.send({"type": "started", "id": child.request["id"], "pid": child.pid})

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


def _signal_name(child: Child, code: int) -> str | None:
    if child.was_stopped:
        return signal.SIGSTOP.name
    return signal.Signals(-code).name if code < 0 else None


def _exit_name(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
