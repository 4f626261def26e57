"""Answers a `plan` request: the tree of each suite, and all that can be known of its leaves without loading data."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from . import fingerprint
from .command_line import ArgumentsError, read_arguments
from .describe import describe_leaf
from .overrides import encode_overrides, leaf_id
from .registry import Registry
from .task_yaml import remembering_files
from .tree import LeafSpec, Node, TreeBuilder


def plan(request: dict[str, Any], warn: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """The fields of the `planned` message. Nothing is imported from task folders, no data set is loaded."""
    # As a dict: thousands of tasks may each have one.
    warnings: dict[str, None] = {}

    def tell(text: str) -> None:
        if text not in warnings:
            warnings[text] = None
            warn(text)

    with _quiet_lm_eval(), remembering_files():
        return _plan(request, warnings, tell)


def _plan(request: dict[str, Any], warnings: dict[str, None], warn: Callable[[str], None]) -> dict[str, Any]:
    version = fingerprint.installed_lm_eval()
    if not fingerprint.is_tested_version(version):
        warn(f"lm_eval {version} is not one of the tested versions, 0.4.12 and 0.4.13")
    for profile, evaluation in request["evaluations"].items():
        _check_arguments(profile, evaluation)
    registry = Registry(request["include_path"], request["cache_dir"])
    for text in registry.warnings:
        warn(text)
    builder = TreeBuilder(registry, warn)
    trees = [(name, builder.suite(name)) for name in request["suites"]]
    unknown = [name for name, tree in trees if tree is None]
    suites = [tree for _, tree in trees if tree is not None]
    unknown += [name for tree in suites for name in _missing(tree)]

    describer = _Describer(request["evaluations"], warn)
    nodes = [describer.node(tree) for tree in suites]
    return {
        "type": "planned",
        "id": request["id"],
        "suites": nodes,
        "leaves": list(describer.leaves.values()),
        "evaluations": describer.evaluations(),
        "unknown": [{"name": name, "near": registry.near(name)} for name in dict.fromkeys(unknown)],
        "warnings": list(warnings),
    }


class _AnyName(dict):
    """An environment in which every variable is set."""

    def __missing__(self, name: str) -> str:
        return "1"

    def __contains__(self, name: object) -> bool:
        return True


def _check_arguments(profile: str, evaluation: dict[str, Any]) -> None:
    """Says now what lm_eval would otherwise say in every job."""
    try:
        read_arguments(evaluation, _AnyName(), ".")
    except ArgumentsError as error:
        raise ArgumentsError(f'Cannot plan profile "{profile}": {error}') from error


def _missing(node: Node) -> list[str]:
    return node.missing + [name for child in node.children for name in _missing(child)]


class _Describer:
    """Turns nodes into protocol records and collects each leaf once."""

    def __init__(self, evaluations: dict[str, Any], warn: Callable[[str], None]) -> None:
        self.leaves: dict[str, dict[str, Any]] = {}
        self._ids: dict[str, str] = {}
        self._inputs = {
            name: fingerprint.evaluation_inputs(evaluation) for name, evaluation in evaluations.items()
        }
        self._num_fewshot = self._shared("num_fewshot")
        self._gen_kwargs = self._shared("gen_kwargs") or {}
        self._warn = warn

    def node(self, node: Node) -> dict[str, Any]:
        record = {
            "name": node.name,
            "kind": node.kind,
            "leaf_id": None,
            "alias": node.alias,
            "version": node.version,
            "children": [self.node(child) for child in node.children],
            "aggregation": node.aggregation,
            "missing": node.missing,
        }
        if node.leaf is not None:
            leaf, config = self._leaf(node.leaf)
            alias = config.get("task_alias")
            record |= {
                "leaf_id": leaf["id"],
                "alias": None if alias is None else str(alias),
                "version": leaf["version"],
            }
        return record

    def evaluations(self) -> dict[str, Any]:
        return {
            name: {
                "inputs": inputs,
                "fingerprints": {
                    leaf["id"]: fingerprint.leaf_fingerprint(leaf["inputs"], inputs)
                    for leaf in self.leaves.values()
                },
            }
            for name, inputs in self._inputs.items()
        }

    def _leaf(self, spec: LeafSpec) -> tuple[dict[str, Any], dict[str, Any]]:
        source = {"kind": spec.kind, "yaml_path": spec.yaml_path}
        config = fingerprint.merged_config(source, spec.overrides)
        known = self._ids.get(spec.key)
        if known is not None:
            return self.leaves[known], config
        name = leaf_id(spec.name, spec.yaml_path, spec.overrides)
        if name in self.leaves:
            raise ValueError(f'Two leaves have the id "{name}": rename one of the tasks "{spec.name}"')
        leaf = {
            "id": name,
            "name": spec.name,
            "source": source,
            "overrides": encode_overrides(spec.overrides),
        }
        leaf |= self._described(spec, config)
        leaf["inputs"] = fingerprint.task_inputs(leaf)
        for text in fingerprint.unseen_data(leaf):
            self._warn(
                f'Task "{spec.name}" names local data that is not there, "{text}": no change of it will be noticed'
            )
        self._ids[spec.key] = name
        self.leaves[name] = leaf
        return leaf, config

    def _described(self, spec: LeafSpec, config: dict[str, Any]) -> dict[str, Any]:
        config = {**config, "task": spec.name}
        try:
            return describe_leaf(config, self._num_fewshot, self._gen_kwargs)
        except Exception as error:  # noqa: BLE001 any fault of a task file is told, and ends that leaf alone
            self._warn(f'Task "{spec.name}" in "{spec.yaml_path}" can\'t be loaded: {error}')
            return describe_leaf({"class": None, **config}, self._num_fewshot, {}) | {"python_class": None}

    def _shared(self, key: str) -> Any:
        """An argument that all profiles have in common; where they differ, the task's own value is shown."""
        values = [inputs[key] for inputs in self._inputs.values()]
        return values[0] if values and all(value == values[0] for value in values) else None


@contextmanager
def _quiet_lm_eval() -> Iterator[None]:
    """lm_eval logs a line per defaulted key of a config; what matters of it is in the plan."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
