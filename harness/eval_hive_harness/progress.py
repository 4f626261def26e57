"""How far a leaf is: phases, answered requests, and what was odd about them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .turn import Turn

# At most this often per leaf, except that a new phase is always told.
_PAUSE_S = 0.5
# So long before the last answer, as far as one can tell, it is time to prepare what comes next.
_NEARLY_DONE_S = 2.0


class Meter:
    """Counts for one leaf. `say` gets `progress` messages. It is our turn before the model is asked."""

    def __init__(self, say: Callable[[dict[str, Any]], None], turn: Turn) -> None:
        self._say = say
        self._turn = turn
        self._waited_s = 0.0
        self._is_nearly_done = False
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
        """Without the time in which another evaluation had the turn."""
        return time.monotonic() - self._started_at - self._waited_s

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
        self._await_turn()
        self.phase, self._method, self._phase_base = "requests", method, self.done
        self._asking_since = time.monotonic() - self.requests_s
        self._tell(self.done, self.total)
        yield
        self.requests_s = time.monotonic() - self._asking_since
        self.done = self._phase_base + count
        self._tell(self.done, self.total)
        if self.done >= self.total:
            self.enter("scoring")

    def answered(self, method: str) -> None:
        """One request more. Others' methods don't count: rolling asks for log-likelihoods within its documents."""
        if method == self._method and self.done < self.total:
            self.done += 1
            if not self._is_nearly_done and self._ends_soon():
                self._is_nearly_done = True
                self._tell(self.done, self.total)
            elif time.monotonic() - self._said_at >= _PAUSE_S:
                self._tell(self.done, self.total)

    def _ends_soon(self) -> bool:
        """The first tenth of the answers says nothing of the rest: servers warm up, and know some prompts already."""
        asked_s = time.monotonic() - self._asking_since
        remaining_s = asked_s / self.done * (self.total - self.done)
        return 10 * self.done >= self.total and remaining_s <= _NEARLY_DONE_S

    def _await_turn(self) -> None:
        if self._turn.is_ours:
            return
        started_at, self.phase = time.monotonic(), "prepared"
        self._tell(0, self.total)
        self._turn.wait()
        self._waited_s += time.monotonic() - started_at

    def _tell(self, done: int, total: int) -> None:
        self._said_at = time.monotonic()
        nearly_done = self._is_nearly_done or self.phase == "scoring"
        self._say(
            {
                "type": "progress",
                "phase": self.phase,
                "done": done,
                "total": total,
                "nearly_done": nearly_done,
            }
        )
