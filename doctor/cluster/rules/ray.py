"""Whether Ray can ever place what LLaMA-Factory asks it for."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.cluster import hostlist
from doctor.cluster.capture import Capture, Group
from doctor.cluster.rules.contrast import Across, across, merged

RULE = "nodes.ray"


def placement(capture: Capture) -> Iterator[Across]:
    """One bundle for every device of the cluster, each with its CPUs; a bundle lies on one node.

    The devices are the GPUs, or on a cluster without any the CPUs themselves (trainer_utils.get_placement_group).
    """
    resources = capture.of("ray.resources")
    wanted = [group.value for group in capture.groups("ray.bundle_cpus")]
    if not resources or not wanted:
        return
    each = wanted[0]
    on_gpus = any(said.get("GPU") for said in resources.values())
    short = {
        node: (said.get("CPU", 0), devices)
        for node, said in resources.items()
        if (devices := said.get("GPU" if on_gpus else "CPU", 0)) and said.get("CPU", 0) < each * devices
    }
    if not short:
        return
    device = "GPU" if on_gpus else "CPU"
    groups = merged(Group(pair, (node,)) for node, pair in short.items())
    told = "; ".join(
        f"{hostlist.fold(g.nodes)}: {g.value[0]:g} CPUs registered, {each * g.value[1]:g} wanted ({each} for each {device})"
        for g in groups
    )
    yield across(RULE, "cluster-ray-cpus", [(told, "ray")], short)


RULES = (placement,)
