"""JSON that is kept between processes because it takes long to find out; whoever can't keep it finds it out again."""

from __future__ import annotations

import json
import os
import tempfile
from typing import Any


def read_kept(path: str) -> Any:
    """None when there is none, or none that can be read."""
    try:
        with open(path, encoding="utf-8") as stream:
            return json.load(stream)
    except (OSError, ValueError):
        return None


def keep(path: str, value: Any) -> None:
    """Best effort, and whole or not at all: others may read and write it now."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".kept-")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                json.dump(value, stream, separators=(",", ":"))
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError:
        pass
