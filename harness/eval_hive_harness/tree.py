"""
Suites as trees, by the rules of lm_eval's TaskFactory (lm_eval/tasks/_factory.py), but without building a task: what is
a group, what is a leaf, and which overrides reach it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from lm_eval.config.group import GroupConfig

from .index import Entry
from .overrides import canonical_json, encode_overrides
from .registry import Registry
from .task_yaml import FunctionRef, read_task_file

_GROUP_KEYS = frozenset(("group", "group_alias", "task", "aggregate_metric_list", "metadata"))
# The factory takes these out before it builds a task.
_STRUCTURAL = ("tag", "group", "task_list")


@dataclass(frozen=True)
class LeafSpec:
    name: str
    kind: str
    yaml_path: str
    overrides: dict[str, Any]
    # The name under which lm_eval's index knows it.
    registered: str

    @cached_property
    def key(self) -> str:
        return canonical_json([self.name, self.kind, self.yaml_path, encode_overrides(self.overrides)])


@dataclass
class Node:
    name: str
    kind: str
    leaf: LeafSpec | None = None
    alias: str | None = None
    version: Any = None
    children: list[Node] = field(default_factory=list)
    aggregation: list[dict[str, Any]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def leaves(self) -> list[Node]:
        """Leaf nodes, depth first, with repetitions."""
        if self.kind == "leaf":
            return [self]
        return [leaf for child in self.children for leaf in child.leaves()]


@dataclass(frozen=True)
class _Group:
    """What the members of one group have in common while they are built."""

    name: str
    yaml_path: str
    overrides: dict[str, Any]
    # Names of the groups around it, itself included.
    path: tuple[str, ...]


class TreeBuilder:
    """Builds one tree per suite. What lm_eval would refuse, or do in silence, is said through `warn`."""

    def __init__(self, registry: Registry, warn: Callable[[str], None]) -> None:
        self._registry = registry
        self._warn = warn

    def suite(self, name: str) -> Node | None:
        """A leaf, group, tag or glob; None when lm_eval knows nothing of that name."""
        entry = self._registry.get(name)
        if entry is not None:
            node = self._entry(entry, {}, ())
        else:
            matches = self._registry.matches(name) if any(c in name for c in "*?[") else []
            if not matches:
                return None
            members = [self._entry(self._known(match), {}, ()) for match in matches]
            node = Node(name, "tag", children=[member for member in members if member is not None])
        if node is not None:
            self._settle_renamed(node)
            self._tell_variants(node)
        return node

    def _known(self, name: str) -> Entry:
        entry = self._registry.get(name)
        assert entry is not None
        return entry

    def _entry(self, entry: Entry, overrides: dict[str, Any], path: tuple[str, ...]) -> Node | None:
        if entry.kind == "tag":
            members = [self._registry.get(name) for name in sorted(entry.members)]
            leaves = [self._leaf(member, overrides) for member in members if member is not None]
            return Node(entry.name, "tag", children=[leaf for leaf in leaves if leaf is not None])
        if entry.kind == "group":
            assert entry.yaml_path is not None
            values = read_task_file(entry.yaml_path).values
            return self._group(entry.name, values, entry.yaml_path, overrides, path)
        return self._leaf(entry, overrides)

    def _leaf(self, entry: Entry, overrides: dict[str, Any]) -> Node | None:
        if entry.yaml_path is None or entry.kind == "group":
            return None
        own = read_task_file(entry.yaml_path).values
        name = overrides.get("task", entry.name)
        if not isinstance(name, str):
            self._warn(f'Task "{entry.name}" is left out: a group gives it the name {name!r}, which lm_eval refuses')
            return None
        # An override that says what the task says itself does not make another leaf.
        kept = {
            key: value
            for key, value in overrides.items()
            if key != "task" and key not in _STRUCTURAL and not (key in own and own[key] == value)
        }
        spec = LeafSpec(name, entry.kind, entry.yaml_path, kept, entry.name)
        return Node(name, "leaf", leaf=spec)

    def _group(
        self, name: str, values: dict[str, Any], yaml_path: str, overrides: dict[str, Any], path: tuple[str, ...]
    ) -> Node | None:
        if name in path:
            self._warn(f'Group "{name}" is left out of itself: {" > ".join((*path, name))}')
            return None
        node = Node(name, "group", alias=values.get("group_alias"))
        node.version = str((values.get("metadata") or {}).get("version", "N/A"))
        node.aggregation = self._aggregation(name, values)
        own = {key: value for key, value in values.items() if key not in _GROUP_KEYS}
        # The outermost group's word counts.
        group = _Group(name, yaml_path, {**own, **overrides}, (*path, name))
        members = values.get("task")
        if not isinstance(members, list):
            self._warn(f'Group "{name}" in "{yaml_path}" has no members: its "task" is no list')
            members = []
        for member in members:
            for child in self._member(node, group, member):
                self._add(node, child)
        return node

    def _member(self, node: Node, group: _Group, member: Any) -> list[Node]:
        if isinstance(member, dict) and "group" in member:
            return self._subgroup(node, group, member)
        if isinstance(member, dict) and isinstance(member.get("task"), str):
            name, overrides = member["task"], {**group.overrides, **member}
        elif isinstance(member, str):
            name, overrides = member, group.overrides
        else:
            self._warn(
                f'Group "{group.name}" in "{group.yaml_path}" has members that lm_eval refuses, they are left out: '
                f'neither a name nor an object with "task" or "group"'
            )
            return []
        entry = self._registry.get(name)
        if entry is None:
            return self._unregistered(node, group, name, member, overrides)
        if entry.kind == "tag":
            found = [self._registry.get(task) for task in sorted(entry.members)]
            return _present(self._leaf(task, overrides) for task in found if task is not None)
        return _present([self._entry(entry, overrides, group.path)])

    def _subgroup(self, node: Node, group: _Group, member: dict[str, Any]) -> list[Node]:
        name = member["group"]
        entry = self._registry.get(name)
        if entry is None:
            inline = f"{group.name}::{name}"
            return _present([self._group(inline, member, group.yaml_path, group.overrides, group.path)])
        if entry.kind == "tag":
            self._warn(f'Group "{group.name}" asks for the tag "{name}" by "group:", which lm_eval refuses: write "task:"')
            node.missing.append(name)
            return []
        overrides = {**group.overrides, **{key: value for key, value in member.items() if key != "group"}}
        return _present([self._entry(entry, overrides, group.path)])

    def _unregistered(
        self, node: Node, group: _Group, name: str, member: Any, overrides: dict[str, Any]
    ) -> list[Node]:
        """A task written out inside the group, or a name that nobody knows."""
        config = {key: value for key, value in overrides.items() if key != "task"}
        if isinstance(member, str) or not ("dataset_path" in config or "custom_dataset" in config):
            node.missing.append(name)
            return []
        inline = f"{group.name}::{name}"
        return [Node(inline, "leaf", leaf=LeafSpec(inline, "inline", group.yaml_path, config, inline))]

    def _add(self, node: Node, child: Node) -> None:
        """lm_eval's groups hold one child per name, the last; we keep variants of a leaf apart."""
        for place, other in enumerate(node.children):
            if other.name != child.name:
                continue
            variant = child.leaf is not None and other.leaf is not None and child.leaf.key != other.leaf.key
            if not variant or child.leaf.registered != child.name:  # type: ignore[union-attr]
                node.children[place] = child
                return
        node.children.append(child)

    def _settle_renamed(self, suite: Node) -> None:
        """
        `{task: <group or tag>, ...}` gives all leaves below that one name, and lm_eval evaluates the last of them, under
        that name, wherever it occurs.
        """
        last = {leaf.name: leaf.leaf for leaf in suite.leaves() if _is_renamed(leaf.leaf)}
        for name, spec in last.items():
            assert spec is not None
            self._warn(
                f'"{suite.name}" names the group or tag "{name}" by "task:" with overrides: lm_eval then calls all of '
                f'its tasks "{name}" and evaluates only the last, "{spec.registered}"; "group: {name}" applies the '
                f"overrides to each task of a group"
            )
            for leaf in suite.leaves():
                if leaf.name == name:
                    leaf.leaf = spec

    def _tell_variants(self, suite: Node) -> None:
        variants: dict[str, set[str]] = {}
        for leaf in suite.leaves():
            assert leaf.leaf is not None
            variants.setdefault(leaf.name, set()).add(leaf.leaf.key)
        for name, keys in variants.items():
            if len(keys) > 1:
                self._warn(
                    f'"{suite.name}" holds "{name}" with {len(keys)} different overrides: each is evaluated; '
                    f"lm_eval alone would evaluate only the last, in place of all"
                )

    def _aggregation(self, name: str, values: dict[str, Any]) -> list[dict[str, Any]]:
        given = values.get("aggregate_metric_list")
        try:
            config = GroupConfig(group=name, aggregate_metric_list=_without_functions(given))
        except (TypeError, ValueError) as error:
            self._warn(f'Group "{name}" has no scores, since lm_eval refuses its aggregate_metric_list: {error}')
            return []
        return [
            {
                "metric": str(entry.metric),
                "filter_list": entry.filter_list,
                "weight_by_size": bool(entry.weight_by_size),
            }
            for entry in config.aggregate_metric_list or []
        ]


def _without_functions(value: Any) -> Any:
    """lm_eval lets a group name a function for "aggregation", and then takes the mean all the same."""
    if isinstance(value, list):
        return [_without_functions(item) for item in value]
    if not isinstance(value, dict):
        return value
    mean = {"aggregation": "mean"} if isinstance(value.get("aggregation"), FunctionRef) else {}
    return {key: item.spec if isinstance(item, FunctionRef) else item for key, item in (value | mean).items()}


def _is_renamed(spec: LeafSpec | None) -> bool:
    return spec is not None and spec.registered != spec.name


def _present(nodes: Any) -> list[Node]:
    return [node for node in nodes if node is not None]
