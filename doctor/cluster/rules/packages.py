"""Packages, Python, drivers and kernels that are not the same on every node."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.cluster import hostlist
from doctor.cluster.capture import Capture, Group
from doctor.cluster.rules.contrast import Across, across, labelled, majority, merged, odd, sentence
from doctor.findings import Severity

RULE = "nodes.packages"

# What takes part in every step on every rank; the rest is told as information.
CORE = (
    "llamafactory", "torch", "transformers", "accelerate", "deepspeed", "peft", "trl", "datasets", "tokenizers", "numpy",
    "ray", "flash-attn", "bitsandbytes", "liger-kernel", "safetensors",
)  # fmt: skip
MOST_PINS = 12  # of packages to install one by one; a node that lacks more has another environment
_CORE_PREFIXES = ("nvidia-nccl", "nvidia-cudnn", "triton")


def is_core(name: str) -> bool:
    return name in CORE or name.startswith(_CORE_PREFIXES)


def packages_differ(capture: Capture) -> Iterator[Across]:
    """Packages are told together that differ in the same way (the same nodes have the same versions in common)."""
    sets = capture.groups("packages.versions")
    if len(sets) < 2:
        return
    names = sorted(set().union(*(group.value for group in sets)), key=lambda name: (not is_core(name), name))
    ways: dict[tuple[tuple[str, ...], ...], list[tuple[str, list[Group]]]] = {}
    for name in names:
        groups = merged(Group(g.value.get(name, "not installed"), g.nodes) for g in sets)
        if len(groups) > 1:
            ways.setdefault(tuple(sorted(group.nodes for group in groups)), []).append((name, groups))
    for core in (True, False):
        told = [chosen for way in ways.values() if (chosen := [pair for pair in way if is_core(pair[0]) == core])]
        if told:
            yield across(
                RULE,
                "cluster-packages-differ",
                [(_told(way), "packages") for way in told],
                dict.fromkeys(node for way in told for node in odd(way[0][1])),
                None if core else Severity.INFO,
                _pins(told),
            )


def _told(way: list[tuple[str, list[Group]]]) -> str:
    """One line for all packages that divide the nodes in the same way."""
    first = way[0][1]
    normal = majority(first)
    by_nodes: dict[tuple[str, ...], list[str]] = {group.nodes: [] for group in first}
    for name, groups in way:
        values = {frozenset(group.nodes): group.value for group in groups}
        for nodes, said in by_nodes.items():
            said.append(f"{name} {values[frozenset(nodes)]}")
    usual = ", ".join(by_nodes.pop(normal.nodes)) if normal else ""
    if normal and len(way) == 1:
        usual = normal.value
    parts = [f"{hostlist.fold(nodes)}: {', '.join(said)}" for nodes, said in by_nodes.items()]
    return "; ".join(parts) + (f", the others {usual}" if usual else "")


def _pins(told: list[list[tuple[str, list[Group]]]]) -> dict[str, str]:
    """The versions that most nodes have, for the odd ones to install; nothing where no majority is."""
    pins = [
        f"{name}=={normal.value}"
        for way in told
        for name, groups in way
        if (normal := majority(groups)) and normal.value != "not installed"
    ]
    return {"pins": " ".join(pins)} if 0 < len(pins) <= MOST_PINS else {}


def python_differs(capture: Capture) -> Iterator[Across]:
    """Another minor version loads other binaries; another patch release is told as information."""
    full = merged(capture.groups("python.version"))
    minor = merged(capture.groups("python.version"), lambda text: ".".join(text.split(".")[:2]))
    if len(full) > 1:
        groups, severity = (minor, None) if len(minor) > 1 else (full, Severity.INFO)
        told = sentence(groups, lambda value: f"Python {value}", str)
        yield across(RULE, "cluster-packages-differ", [(told, "python")], odd(groups), severity)


def drivers_differ(capture: Capture) -> Iterator[Across]:
    evidence: list[tuple[str, str]] = []
    nodes: list[str] = []
    for fact, shown in (("gpu.driver", "GPU driver"), ("gpu.cuda", "CUDA of the driver"), ("node.kernel", "kernel")):
        groups = merged(capture.groups(fact), str_or_none)
        if len(groups) > 1:
            evidence.append((sentence(groups, labelled(shown), str), shown))
            nodes += odd(groups)
    if evidence:
        only_kernel = all(where == "kernel" for _, where in evidence)
        yield across(RULE, "cluster-driver-differs", evidence, nodes, Severity.INFO if only_kernel else None)


def str_or_none(value: object) -> str | None:
    return None if value is None else str(value)


RULES = (packages_differ, python_differs, drivers_differ)
