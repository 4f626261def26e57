"""When a child may ask the model: another evaluation may still be at it."""

from __future__ import annotations

import select

from .wire import Wire


class Turn:
    """Ours from the start, or from a word of the parent on."""

    def __init__(self, word: Wire | None) -> None:
        self._word = word

    @property
    def is_ours(self) -> bool:
        return self._word is None

    def wait(self) -> None:
        while self._word is not None:
            select.select([self._word.input], [], [])
            lines, ended = self._word.receive()
            if lines:
                self._word = None
            elif ended:
                raise EOFError("Nobody is there to give the word")
