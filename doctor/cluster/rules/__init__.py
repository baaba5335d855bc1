"""Judgements across nodes: pure functions from a capture to findings with the nodes that they are about.

A rule is `rule(capture) -> Iterator[Across]`. Facts that a node does not know are left out of its comparison; a rule
never takes unknown for different.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache

from doctor.cluster.capture import Capture
from doctor.cluster.rules.contrast import Across

Rule = Callable[[Capture], Iterable[Across]]


@cache
def all_rules() -> tuple[Rule, ...]:
    from doctor.cluster.rules import files, launch, machines, network, packages, ray, together

    return tuple(
        rule for module in (packages, files, launch, network, machines, ray, together) for rule in module.RULES
    )
