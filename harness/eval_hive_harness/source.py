"""What was read where: shows later whether a path still leads to the same file with the same content."""

from __future__ import annotations

import os
import time
from typing import NamedTuple

# File systems count time in steps of up to two seconds: a change within the same step shows in no stamp.
_STEP_NS = 2_000_000_000

Stamp = list[int]


class Source(NamedTuple):
    """Of a path that was read, links and all."""

    # The path of the file itself: what it names beside it is looked for there.
    file: str
    stamp: Stamp


def is_unchanged(path: str, source: Source) -> bool:
    """Whether reading `path` now would read the same."""
    # A file that is linked into two versions of a directory has one stamp, but not the same neighbours.
    leads_there = path == source.file or os.path.realpath(path) == source.file
    return leads_there and stamp_of_file(path) == source.stamp


def stamp_of_file(path: str) -> Stamp | None:
    """None when it can't be read."""
    try:
        # Opened, not only looked at: a network file system then asks its server.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return stamp_of(os.fstat(descriptor))
    finally:
        os.close(descriptor)


def stamp_of(status: os.stat_result) -> Stamp:
    """
    What changes with a file's content, also where its time and size are made to stay; taken before reading, so that a
    change meanwhile shows. No device: its number differs between the nodes that share a network file system.
    """
    now = time.time_ns()
    # One that never comes again, as long as the next change might leave the same.
    young = [now] if now - max(status.st_mtime_ns, status.st_ctime_ns) < _STEP_NS else []
    return [*_marks(status), *young]


def is_stamped(status: os.stat_result, stamp: Stamp) -> bool:
    """Whether a process that took the stamp can take this for the same file, young or not."""
    marks = _marks(status)
    return stamp[: len(marks)] == marks


def _marks(status: os.stat_result) -> list[int]:
    return [status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino]
