"""Recipe, data and model: the same on every node, and there at all; and whether checkpoints land in one place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from doctor.cluster import hostlist
from doctor.cluster.capture import Capture
from doctor.cluster.rules.contrast import Across, across, merged, odd, sentence

RULE = "nodes.files"

_LOCAL = {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "overlay", "tmpfs", "f2fs", "ramfs"}


def cannot_start(capture: Capture) -> Iterator[Across]:
    """The collector came up, and the working directory, the interpreter or the recipe is not there."""
    groups = merged(capture.groups("node.failed"))
    if groups:
        evidence = [(f"{hostlist.fold(group.nodes)}: {group.value}", "collector") for group in groups]
        yield across(RULE, "cluster-node-not-prepared", evidence, [n for group in groups for n in group.nodes])


def files_differ(capture: Capture) -> Iterator[Across]:
    """The same path with other contents, or missing on some nodes only."""
    sets = capture.groups("files.seen")
    evidence: list[tuple[str, str]] = []
    nodes: list[str] = []
    paths = dict.fromkeys((role, path) for group in sets for role, seen in group.value.items() for path in seen)
    for role, path in paths:
        groups = merged(sets, partial(_state, role, path))
        if len(groups) > 1:
            evidence.append((sentence(groups), f"{role}: {path}"))
            nodes += odd(groups)
    if evidence:
        yield across(RULE, "cluster-files-differ", evidence, nodes)


def _state(role: str, path: str, seen: Mapping[str, Any]) -> str | None:
    """What a node has at a path, as text; None where it could not look (then it takes no part)."""
    if role not in seen:
        return None  # not read there: another fault, told by its own finding
    described = seen[role].get(path)
    if described is None:
        return "not there"
    if "error" in described:
        return "not there" if described["error"] == "No such file or directory" else None
    return f"{described['size']} bytes, digest {described['digest'][:8]}"


def output_not_shared(capture: Capture) -> Iterator[Across]:
    """Checkpoints on the nodes' own disks: DeepSpeed writes each node's part there, and no node has them all."""
    mounts = {node: said.get("output_dir") for node, said in capture.of("files.mounts").items()}
    local = {node: mount for node, mount in mounts.items() if mount and mount["type"] in _LOCAL}
    if len(mounts) < 2 or len(local) < len(mounts) or len(set(capture.of("node.host").values())) < 2:
        return
    if any((values.get("save_strategy") == "no") for values in capture.of("recipe.values").values()):
        return
    first = next(iter(local.values()))
    what = f"{first['path']} lies on {first['type']} of each of {len(local)} nodes, which is no shared file system"
    yield across(RULE, "cluster-output-not-shared", [(what, "output_dir")], local)


RULES = (cannot_start, files_differ, output_not_shared)
