"""JSON objects, one per line, over file descriptors that nothing else in the process can reach."""

from __future__ import annotations

import json
import os
from typing import Any

_READ_BYTES = 1 << 16
# Beyond this much unsent text a wire asks its feeders to wait.
_FULL_BYTES = 8 << 20


def take_over_stdio() -> Wire:
    """
    Stdin and stdout become private: lm_eval and what it starts find /dev/null on fd 0, and what they print on fd 1 goes
    to stderr, so that no line of theirs ever gets between ours.
    """
    wire = Wire(os.dup(0), os.dup(1))
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return wire


def encode(message: dict[str, Any]) -> bytes:
    """One line. Text that is no Unicode (lone surrogates) is escaped, as JSON allows."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def write_line(fd: int, line: bytes) -> None:
    """Blocks until the whole line is written."""
    view = memoryview(line)
    while view:
        view = view[os.write(fd, view) :]


class Wire:
    """Both directions of a connection. Never blocks: what can't be sent yet is kept."""

    def __init__(self, input_fd: int, output_fd: int | None) -> None:
        self.input = input_fd
        self.output = output_fd
        self._received = b""
        self._unsent = bytearray()
        for fd in self.descriptors():
            os.set_blocking(fd, False)

    def descriptors(self) -> list[int]:
        return [fd for fd in (self.input, self.output) if fd is not None]

    @property
    def has_unsent(self) -> bool:
        return len(self._unsent) > 0

    @property
    def is_full(self) -> bool:
        return len(self._unsent) > _FULL_BYTES

    def send(self, message: dict[str, Any]) -> None:
        self.send_line(encode(message))

    def queue(self, message: dict[str, Any]) -> None:
        """For the next `flush`; lost when the output is closed."""
        if self.output is not None:
            self._unsent += encode(message)

    def send_line(self, line: bytes) -> None:
        self._unsent += line
        self.flush()

    def flush(self) -> None:
        """Sends what fits. Raises BrokenPipeError when nobody listens any more."""
        while self._unsent and self.output is not None:
            try:
                sent = os.write(self.output, self._unsent)
            except BlockingIOError:
                return
            del self._unsent[:sent]

    def receive(self) -> tuple[list[bytes], bool]:
        """The complete lines that have arrived, and whether the other end has closed; a torn last line is dropped."""
        try:
            data = os.read(self.input, _READ_BYTES)
        except BlockingIOError:
            return [], False
        *lines, self._received = (self._received + data).split(b"\n")
        return [line for line in lines if line.strip()], data == b""

    def close_output(self) -> None:
        """The other end sees the end of file. What is still unsent is dropped."""
        if self.output is not None:
            os.close(self.output)
        self.output = None
        self._unsent.clear()

    def close(self) -> None:
        self.close_output()
        os.close(self.input)
