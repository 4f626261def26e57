"""What the parent knows of one child: its request, how far that is, and how long it may still take."""

from __future__ import annotations

import os
import time
from typing import Any

from .reuse import Record
from .wire import Wire

# A stopped child (SIGSTOP) that nobody continues.
_STOPPED_S = 30.0
# A child without a request, before it is ended.
_IDLE_S = 5.0
# What is timed is looked at so often at least; a pause that was much longer was one of this process itself.
NAP_S = 5.0
# What a leaf that does not get done with a phase has failed with. Requests have timeouts of their own.
CLASS_OF_TIMED_PHASE = {"loading": "load", "scoring": "metric"}
# A child keeps a model that was loaded by these.
_OF_THE_MODEL = ("resident", "evaluation", "env", "engine")


class Child:
    """A forked process and the request in its hands: the one that it was made for, or another; between two it has none."""

    def __init__(self, pid: int, wire: Wire, request: dict[str, Any]) -> None:
        self.pid = pid
        self.wire = wire
        self.request: dict[str, Any] | None = request
        # A request that is only sent may still be given to another child.
        self.has_taken = True
        self.is_resident = request.get("resident") is not None
        self.leaf: str | None = None
        self.cancelled = False
        self.answered = False
        self.cpu_s = 0.0
        self.kill_at: float | None = None
        # Of the leaf; instants of `Awake`.
        self.phase: str | None = None
        self.phase_since = 0.0
        self.stopped_since: float | None = None
        # Since when it has no request.
        self.idle_since: float | None = None
        self.record = Record()
        self.was_stopped = False
        self.was_late = False
        self._model = [request.get(key) for key in _OF_THE_MODEL]

    def has_model_for(self, request: dict[str, Any]) -> bool:
        return self._model == [request.get(key) for key in _OF_THE_MODEL]

    def could_take(self, request: dict[str, Any]) -> bool:
        is_free = self.idle_since is not None and self.stopped_since is None and self.kill_at is None
        return is_free and not self.is_resident and self.has_model_for(request) and self.record.suits(request)

    def late_at(self) -> float | None:
        """When it has been stopped, without a request, or in a phase, for too long."""
        if self.stopped_since is not None:
            return self.stopped_since + _STOPPED_S
        if self.idle_since is not None and not self.is_resident:
            return self.idle_since + _IDLE_S
        if self.leaf is None or self.request is None or self.phase not in CLASS_OF_TIMED_PHASE:
            return None
        return self.phase_since + self.request["phase_timeout_s"]

    def signal(self, number: int) -> None:
        """To the whole group; to the process alone as long as it has not founded one."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            os.kill(self.pid, number)


class Awake:
    """Seconds for which this process was awake: while it is itself stopped, nobody else is late."""

    def __init__(self) -> None:
        self._looked_at = time.monotonic()
        self._seconds = 0.0

    def now(self) -> float:
        at = time.monotonic()
        self._seconds += min(at - self._looked_at, 2 * NAP_S)
        self._looked_at = at
        return self._seconds
