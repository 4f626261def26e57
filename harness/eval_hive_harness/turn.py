"""What the parent says to a child while it lives, and when it may ask the model: another evaluation may still be at it."""

from __future__ import annotations

import json
import select
from collections import deque
from typing import Any

from .wire import Wire


class Orders:
    """From the parent, one after the other."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._waiting: deque[bytes] = deque()

    def next(self) -> dict[str, Any] | None:
        """Waits for it. None: the parent wants no more."""
        while not self._waiting:
            select.select([self._wire.input], [], [])
            lines, ended = self._wire.receive()
            self._waiting.extend(lines)
            if ended and not lines:
                return None
        return json.loads(self._waiting.popleft())

    def next_request(self) -> dict[str, Any] | None:
        while (order := self.next()) is not None:
            # The word for an evaluation that did not need it is no request.
            if order["type"] == "run":
                return order
        return None


class Turn:
    """Ours from the start, or from a word of the parent on."""

    def __init__(self, request: dict[str, Any], orders: Orders) -> None:
        self._id = request["id"]
        self._orders = orders
        self.is_ours = not request["held"]

    def wait(self) -> None:
        while not self.is_ours:
            order = self._orders.next()
            if order is None:
                raise EOFError("Nobody is there to give the word")
            self.is_ours = order == {"type": "go", "id": self._id}
