"""
What can change a leaf's score, as small inputs, and the hash over them. Inputs are stored in every leaf file, so that a
later version can compute its own fingerprint from them: values where they are short, hashes where they are long.
"""

from __future__ import annotations

import hashlib
import os
import re
from functools import lru_cache
from typing import Any

from . import arguments
from .code_files import code_files
from .data_files import data_content, missing_data
from .overrides import canonical_json, decode_overrides, is_json_scalar, sha256_of
from .task_yaml import FunctionRef, read_task_file

# Where scores or their record changed: few-shot prompts (samplers, gen_prefix), filters, numpy scalars, sample_len.
_BEHAVIOURS = (((0, 4, 13), "lm_eval>=0.4.13"), ((0, 4, 12), "lm_eval>=0.4.12,<0.4.13"))
_NEWEST_TESTED = (0, 4, 13)

# Keys of a task's config that name or place it and never reach a prompt or a score.
_CONFIG_LABELS = frozenset(("task", "task_alias", "tag", "group", "task_list", "num_fewshot"))

# Where requests go and how fast they are asked.
_TRANSPORT = frozenset((
    "base_url", "timeout", "max_retries", "header", "headers", "auth_token", "api_key", "verify_certificate",
    "ca_cert_path", "num_concurrent", "batch_size", "max_batch_size", "device", "device_map", "parallelize",
    "max_memory_per_gpu", "max_cpu_memory", "offload_folder", "gpus", "tensor_parallel_size",
    "pipeline_parallel_size", "data_parallel_size", "gpu_memory_utilization", "swap_space", "max_num_seqs",
    "max_num_batched_tokens", "disable_log_stats", "download_dir", "seqlen_bucket_size",
))  # fmt: skip
_ARGUMENTS_WITHOUT_EFFECT = frozenset((
    "tasks", "output_path", "include_path", "model_args", "batch_size", "max_batch_size", "device", "use_cache",
    "cache_requests", "log_samples", "write_out", "show_config", "verbosity", "wandb_args", "wandb_config_args",
    "hf_hub_log_args", "trackio_args", "trust_remote_code", "confirm_run_unsafe_code", "check_integrity", "config",
))  # fmt: skip

_SHORT_JSON = 160
# Whatever is in it: a character takes six at most.
_SHORT_TEXT = (_SHORT_JSON - 2) // 6
_SCORED_BY_LIKELIHOOD = ("multiple_choice", "loglikelihood", "loglikelihood_rolling")


def task_inputs(leaf: dict[str, Any]) -> dict[str, Any]:
    """The task's part: its config with includes and overrides merged, its code and its local data by content."""
    config = merged_config(leaf["source"], decode_overrides(leaf["overrides"]))
    refs: list[FunctionRef] = []
    values = {
        key: _short(_portable(value, refs))
        for key, value in config.items()
        if key not in _CONFIG_LABELS and key not in ("dataset_path", "dataset_kwargs")
    }
    return {
        "name": leaf["name"],
        "kind": leaf["source"]["kind"],
        "num_fewshot": arguments.parse_value(config.get("num_fewshot")),
        "config": values,
        "data": _portable(data_content(config, _task_files(leaf["source"])), refs),
        "code": [[os.path.basename(path), _file_sha256(path)] for path in code_files(refs)],
    }


def evaluation_inputs(evaluation: dict[str, Any], lm_eval_version: str | None = None) -> dict[str, Any]:
    """The evaluation's part: the same for every leaf. Placeholders stay unexpanded, paths count by base name."""
    model_args = arguments.parse_mapping(evaluation["model_args"])
    given = {
        key: value
        for key, value in evaluation["lm_eval_args"].items()
        if key not in _ARGUMENTS_WITHOUT_EFFECT and value is not None and value is not False
    }
    chat = given.pop("apply_chat_template", False)
    multiturn = evaluation["lm_eval_args"].get("fewshot_as_multiturn")
    given.pop("fewshot_as_multiturn", None)
    inputs = {
        "behaviour": lm_eval_behaviour(lm_eval_version or installed_lm_eval()),
        "model": given.pop("model", "hf"),
        "model_args": {
            key: _by_base_name(value) for key, value in model_args.items() if key not in _TRANSPORT
        },
        # A single request at a time goes another way through lm_eval, with other stop sequences.
        "one_at_a_time": _is_sequential(model_args.get("num_concurrent")),
        "apply_chat_template": arguments.parse_value(chat),
        "fewshot_as_multiturn": bool(chat) if multiturn is None else _flag(multiturn),
        "num_fewshot": arguments.parse_num_fewshot(given.pop("num_fewshot", None)),
        "seeds": arguments.parse_seeds(given.pop("seed", None)),
        "gen_kwargs": arguments.parse_mapping(given.pop("gen_kwargs", None)),
    }
    if "metadata" in given:
        inputs["metadata"] = _by_base_name(arguments.parse_mapping(given.pop("metadata")))
    return inputs | {key: _by_base_name(arguments.parse_value(v)) for key, v in sorted(given.items())}


def leaf_inputs(task: dict[str, Any], evaluation: dict[str, Any]) -> dict[str, Any]:
    """Both parts for one leaf: what is stored beside the fingerprint, and what it is the hash of."""
    task, evaluation = dict(task), dict(evaluation)
    shots = arguments.effective_num_fewshot(task.pop("num_fewshot"), evaluation.pop("num_fewshot"))
    if task["config"].get("output_type") in _SCORED_BY_LIKELIHOOD:
        # lm_eval applies them to generate_until alone.
        evaluation.pop("gen_kwargs")
    return {"task": task, "evaluation": evaluation, "num_fewshot": shots}


def leaf_fingerprint(task: dict[str, Any], evaluation: dict[str, Any]) -> str:
    return fingerprint_of(leaf_inputs(task, evaluation))


def fingerprint_of(inputs: dict[str, Any]) -> str:
    """The fingerprint of stored inputs."""
    return f"fp1:{hashlib.sha256(canonical_json(inputs).encode()).hexdigest()}"


def merged_config(source: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """A leaf's config as lm_eval's factory merges it, with function references instead of functions."""
    if source["kind"] == "inline":
        return dict(overrides)
    return {**read_task_file(source["yaml_path"]).values, **overrides}


def unseen_data(leaf: dict[str, Any]) -> list[str]:
    """Local data that a leaf names and that is not there: only the name is in its fingerprint, no content."""
    config = merged_config(leaf["source"], decode_overrides(leaf["overrides"]))
    return missing_data(config, _task_files(leaf["source"]))


def _task_files(source: dict[str, Any]) -> tuple[str, ...]:
    """The file that says the task, with what it includes; for an inline task its group's."""
    return read_task_file(source["yaml_path"]).files


def installed_lm_eval() -> str:
    from lm_eval import __version__

    return __version__


def lm_eval_behaviour(version: str) -> str:
    """The range of versions that score alike; a version newer than the tested ones counts as the newest."""
    number = _version_tuple(version)
    return next((label for since, label in _BEHAVIOURS if number >= since), f"lm_eval=={version}")


def is_tested_version(version: str) -> bool:
    return _BEHAVIOURS[-1][0] <= _version_tuple(version) <= _NEWEST_TESTED


def _version_tuple(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _portable(value: Any, refs: list[FunctionRef]) -> Any:
    """Without places and addresses; the functions that it meets are added to `refs`."""
    if isinstance(value, FunctionRef):
        refs.append(value)
        return {"!function": value.spec}
    if isinstance(value, dict):
        return {str(key): _portable(item, refs) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_portable(item, refs) for item in value]
    if is_json_scalar(value):
        return value
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))


def _short(value: Any) -> Any:
    if value is None or (isinstance(value, str) and len(value) < _SHORT_TEXT):
        return value
    return value if len(canonical_json(value)) <= _SHORT_JSON else {"sha256": sha256_of(value)}


def _by_base_name(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _by_base_name(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_by_base_name(item) for item in value]
    if isinstance(value, str) and re.match(r"(?:/|\.{1,2}/|~/)\S", value):
        return os.path.basename(value.rstrip("/"))
    return value


def _is_sequential(num_concurrent: Any) -> bool:
    return num_concurrent is None or (isinstance(num_concurrent, int) and num_concurrent <= 1)


def _flag(value: Any) -> bool:
    return value if isinstance(value, bool) else str(value).lower() in ("true", "1", "yes")


def _file_sha256(path: str) -> str:
    status = os.stat(path)
    return _sha256_at(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4096)
def _sha256_at(path: str, _mtime_ns: int, _size: int) -> str:
    with open(path, "rb") as stream:
        return hashlib.sha256(stream.read()).hexdigest()
