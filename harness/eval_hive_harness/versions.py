"""Which lm_eval this is, and whether we can work with it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import re
import sys
from typing import Any

OLDEST = (0, 4, 12)


class UnusableLmEval(Exception):
    """There is no lm_eval here, or one that we can't drive."""


def require_lm_eval() -> str:
    """The installed version; reads its metadata only, imports nothing. Raises UnusableLmEval."""
    version = _version("lm_eval")
    if version is None:
        raise UnusableLmEval(
            f'{sys.executable} has no lm_eval: install it with `pip install "lm_eval[api]>=0.4.12" transformers`'
        )
    if tuple(int(part) for part in re.findall(r"\d+", version)[:3]) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise UnusableLmEval(
            f"{sys.executable} has lm_eval {version}, and {oldest} is the oldest that works: "
            f'`pip install "lm_eval[api]>={oldest}"`'
        )
    return version


def describe_versions() -> dict[str, Any]:
    """What `hello` says."""
    return {
        "python": platform.python_version(),
        "lm_eval": require_lm_eval(),
        "lm_eval_sha256": _hash_of_own_files(),
        "datasets": _version("datasets"),
        "transformers": _version("transformers"),
        "torch": _version("torch"),
    }


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _hash_of_own_files() -> str:
    """Over paths and contents of lm_eval's Python files; those of its tasks are part of the fingerprints instead."""
    import lm_eval

    root = os.path.dirname(os.path.realpath(lm_eval.__file__))
    digest = hashlib.sha256()
    for directory, folders, files in os.walk(root):
        at = os.path.relpath(directory, root)
        folders[:] = [] if at == "tasks" else sorted(set(folders) - {"__pycache__"})
        for name in sorted(files):
            if name.endswith(".py"):
                with open(os.path.join(directory, name), "rb") as stream:
                    content = hashlib.sha256(stream.read()).hexdigest()
                digest.update(f"{os.path.join(at, name)}\0{content}\n".encode())
    return digest.hexdigest()
