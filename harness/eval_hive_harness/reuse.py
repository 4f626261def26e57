"""
Which child may evaluate one batch after the other. To fork one is cheap; to touch, in a new process, all that an evaluation
touches takes a third of what a short batch costs. A longer one does not notice, and gets memory that nobody has used.
"""

from __future__ import annotations

import resource
from typing import Any

# A batch that takes longer is the last one of its child.
_SHORT_S = 30.0
# Whatever leaks, leaks no further.
_MAX_BATCHES = 32
# Beyond what the parent has.
_MAX_MEMORY_BYTES = 512 << 20


def may_be_followed(request: dict[str, Any]) -> bool:
    """
    Whether the process that evaluates these leaves may evaluate others. What leaves of one Python class share is not known,
    so those are alone with their batch, unless the model can't be loaded twice.
    """
    return request["resident"] is not None or all(leaf["source"]["kind"] != "python" for leaf in request["leaves"])


class Record:
    """What a child has done so far."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._batches = 0
        self._begun_at = 0.0
        self._has_failed = False
        self._is_last = False

    def begin(self, request: dict[str, Any], now: float) -> None:
        self._names.update(leaf["name"] for leaf in request["leaves"])
        self._batches += 1
        self._begun_at = now
        self._is_last = not may_be_followed(request)

    def fail(self) -> None:
        """A leaf has failed, or can't be trusted."""
        self._has_failed = True

    def is_fit(self, now: float, max_rss_bytes: int) -> bool:
        """For another batch, when this one has ended."""
        if self._has_failed or self._is_last or self._batches >= _MAX_BATCHES:
            return False
        parent_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return now - self._begun_at <= _SHORT_S and max_rss_bytes <= parent_bytes + _MAX_MEMORY_BYTES

    def suits(self, request: dict[str, Any]) -> bool:
        """Leaves of one name never share a child."""
        return may_be_followed(request) and self._names.isdisjoint(leaf["name"] for leaf in request["leaves"])
