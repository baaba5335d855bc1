"""What only matters among several nodes: probes with the interface of `doctor.probes`, run by the collector.

They judge nothing on one node; `doctor.cluster.rules` judges their facts across all.
"""

from __future__ import annotations

from typing import cast

from doctor.probes import Probe


def probes() -> tuple[Probe, ...]:
    from doctor.cluster.facts import files, meeting, network, node, ray_needs, together

    return tuple(cast(Probe, module) for module in (node, network, meeting, files, ray_needs, together))
