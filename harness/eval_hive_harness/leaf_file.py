"""Puts a leaf's result in its place: samples first, then one exclusive link, so that a leaf file is always whole and only one."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from lm_eval.utils import handle_non_serializable, sanitize_list

# Some network file systems can't fsync a directory, and don't need it.
_NO_DIRECTORY_SYNC = frozenset((errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF))

# A file server that fails over, a mount that is made anew: an evaluation may have cost hours, so it waits a minute for them.
_PASSING = frozenset((errno.EIO, errno.ESTALE, errno.EREMOTEIO, errno.ETIMEDOUT))
_PAUSES_S = (0.5, 2, 8, 20, 30)


class LeafPlace:
    """Where the files of one leaf of one unit lie. src/run/layout.ts has the same names."""

    def __init__(self, directory: str, leaf_id: str, fingerprint: str, owner: str) -> None:
        stem = f"{leaf_id}.{fingerprint.partition(':')[2][:12]}"
        self.directory = directory
        self.owner = owner
        self.result = os.path.join(directory, f"results_{stem}.json")
        self.invalid = os.path.join(directory, f"invalid_{stem}.json")
        self.samples = os.path.join(directory, f"samples_{stem}.{owner}.jsonl")

    def store(
        self, document: dict[str, Any], samples: Iterable[dict[str, Any]] | None, path: str
    ) -> bool:
        """
        Creates `path` with the whole document, whose `eval_hive` block then says which file has the samples; durable on
        return. Samples that lose against an earlier leaf file are removed. Gives False when the file was there already.
        Raises OSError, with the name of the file.
        """
        for pause_s in (*_PAUSES_S, None):
            try:
                kept = None if samples is None else self._write_samples(samples)
                document["eval_hive"]["samples"] = kept
                return self._publish(document, path)
            except OSError as error:
                if pause_s is None or error.errno not in _PASSING:
                    raise
                print(f"{error}: trying again in {pause_s} s", flush=True)
                time.sleep(pause_s)
        raise AssertionError

    def _write_samples(self, samples: Iterable[dict[str, Any]]) -> dict[str, Any]:
        """Durable on return. Gives what the leaf file says about them."""
        os.makedirs(self.directory, exist_ok=True)
        digest, size_bytes = hashlib.sha256(), 0
        try:
            with _named(self.samples), open(self.samples, "wb") as stream:
                for sample in samples:
                    line = _sample_line(sample)
                    digest.update(line)
                    size_bytes += len(line)
                    stream.write(line)
                _sync(stream)
        except BaseException:
            _unlink(self.samples)
            raise
        file = os.path.basename(self.samples)
        return {"file": file, "size_bytes": size_bytes, "sha256": digest.hexdigest()}

    def _publish(self, document: dict[str, Any], path: str) -> bool:
        os.makedirs(self.directory, exist_ok=True)
        temporary = os.path.join(self.directory, f".{os.path.basename(path)}.{self.owner}.{os.getpid()}.tmp")
        created = False
        try:
            # As lm_eval writes it: NaN and Infinity stay bare.
            text = json.dumps(document, indent=2, default=handle_non_serializable, ensure_ascii=False)
            with _named(path), open(temporary, "wb") as stream:
                stream.write(text.encode("utf-8", "backslashreplace"))
                _sync(stream)
            created = _link(temporary, path) or self._is_ours(path)
        finally:
            _unlink(temporary)
            if not created and not self._is_ours(path):
                _unlink(self.samples)
        with _named(self.directory):
            _sync_directory(self.directory)
        return created

    def _is_ours(self, path: str) -> bool:
        """True when the file that stands names our samples: it is from an earlier try of this evaluation."""
        try:
            with open(path, encoding="utf-8") as stream:
                return json.load(stream)["eval_hive"]["samples"]["file"] == os.path.basename(self.samples)
        except (OSError, ValueError, KeyError, TypeError):
            return False


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Calls on an open file fail without saying which."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = path
        raise


def _link(temporary: str, path: str) -> bool:
    """True when `path` is ours now. On NFS an answer can get lost and the call repeated: then the link count tells."""
    try:
        os.link(temporary, path)
        return True
    except OSError as error:
        # Opening asks the server again, where stat alone may answer from a cache.
        with open(temporary, "rb") as stream:
            ours = os.fstat(stream.fileno())
        if ours.st_nlink >= 2 or (os.path.exists(path) and os.path.samestat(ours, os.stat(path))):
            return True
        if isinstance(error, FileExistsError):
            return False
        raise


def _sample_line(sample: dict[str, Any]) -> bytes:
    """As lm_eval's EvaluationTracker.save_results_samples writes it."""
    arguments = {
        f"gen_args_{i}": {f"arg_{j}": value for j, value in enumerate(argument)}
        for i, argument in enumerate(sample["arguments"])
    }
    shown = {
        **sample,
        "resps": sanitize_list(sample["resps"]),
        "filtered_resps": sanitize_list(sample["filtered_resps"]),
        "arguments": arguments,
        "target": str(sample["target"]),
    }
    text = json.dumps(shown, default=handle_non_serializable, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace") + b"\n"


def _sync(stream: Any) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _sync_directory(directory: str) -> None:
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY_SYNC:
            raise
    finally:
        os.close(fd)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
