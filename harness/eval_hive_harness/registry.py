"""Task names: those of the include path first, lm_eval's own only for a name that is missing there."""

from __future__ import annotations

import difflib
import fnmatch
import hashlib
import importlib.metadata
import os

import lm_eval

from .index import Entry, Index, open_index

_NEAR_SPELLINGS = 4


class Registry:
    """Opens each of the two indexes when a name first needs it."""

    def __init__(self, include_path: str | None, cache_dir: str) -> None:
        self._cache_dir = cache_dir
        self._builtin: Index | None = None
        self._local = Index({}, [])
        if include_path is not None:
            if not os.path.isdir(include_path):
                raise NotADirectoryError(
                    f'Cannot read task files: eval_suite_path "{include_path}" is no directory'
                )
            self._local = open_index(os.path.abspath(include_path), cache_dir, with_content=True)

    def get(self, name: str) -> Entry | None:
        """The entry that lm_eval would take: the include path's hides its own."""
        return self._local.entries.get(name) or self._builtin_index().entries.get(name)

    def matches(self, pattern: str) -> list[str]:
        """Names that match a glob, sorted, as lm_eval's `--tasks` has them."""
        return sorted(fnmatch.filter(self._names(), pattern))

    def near(self, name: str) -> list[str]:
        return difflib.get_close_matches(name, sorted(self._names()), _NEAR_SPELLINGS, 0.75)

    @property
    def warnings(self) -> list[str]:
        """About the include path's files; lm_eval's own are not the user's to mend."""
        return self._local.warnings

    def _names(self) -> set[str]:
        return self._local.entries.keys() | self._builtin_index().entries.keys()

    def _builtin_index(self) -> Index:
        if self._builtin is None:
            self._builtin = open_index(builtin_directory(), self._cache_dir, sealed_by=_installed_files())
        return self._builtin


def builtin_directory() -> str:
    """Where lm_eval's TaskManager looks for its own tasks."""
    return os.path.join(os.path.dirname(os.path.abspath(lm_eval.__file__)), "tasks")


def _installed_files() -> str | None:
    """Hash of the list of lm_eval's installed files; None for a checkout that may change at any time."""
    try:
        record = importlib.metadata.distribution("lm_eval").read_text("RECORD") or ""
    except importlib.metadata.PackageNotFoundError:
        return None
    if "lm_eval/tasks/manager.py" not in record:
        return None
    return hashlib.sha256(record.encode()).hexdigest()
