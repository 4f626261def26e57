"""How far a leaf is: phases, answered requests, and what was odd about them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# At most this often per leaf, except that a new phase is always told.
_PAUSE_S = 0.5


class Meter:
    """Counts for one leaf. `say` gets `progress` messages."""

    def __init__(self, say: Callable[[dict[str, Any]], None]) -> None:
        self._say = say
        self._said_at = 0.0
        self._phase_base = 0
        self._method = ""
        self._started_at = time.monotonic()
        self.phase = "loading"
        self.done = 0
        self.total = 0
        self.load_s = 0.0
        self.requests_s = 0.0
        # Answers that the tokenizer merges into the prompt: nothing is left of them to score.
        self.empty_continuations = 0
        self._tell(0, 1)

    @property
    def total_s(self) -> float:
        return time.monotonic() - self._started_at

    def expect(self, total: int) -> None:
        """The requests of this leaf are known."""
        self.total = total
        self.load_s = self.total_s

    def enter(self, phase: str) -> None:
        self.phase = phase
        if phase == "scoring":
            self._tell(0, 1)

    @contextmanager
    def answering(self, method: str, count: int) -> Iterator[None]:
        """While the model answers `count` requests of one kind."""
        self.phase, self._method, self._phase_base = "requests", method, self.done
        started_at = time.monotonic()
        self._tell(self.done, self.total)
        yield
        self.requests_s += time.monotonic() - started_at
        self.done = self._phase_base + count
        self._tell(self.done, self.total)
        if self.done >= self.total:
            self.enter("scoring")

    def answered(self, method: str) -> None:
        """One request more. Others' methods don't count: rolling asks for log-likelihoods within its documents."""
        if method == self._method and self.done < self.total:
            self.done += 1
            if time.monotonic() - self._said_at >= _PAUSE_S:
                self._tell(self.done, self.total)

    def _tell(self, done: int, total: int) -> None:
        self._said_at = time.monotonic()
        self._say({"type": "progress", "phase": self.phase, "done": done, "total": total})
