"""What a card can do by its maker: dense bf16 (fp16 before Ampere) tensor operations with fp32 sums, memory bandwidth.

From NVIDIA's data sheets (B200, H200, H100, H20, A100, A40, L40S, V100) and architecture white papers (Ada, Ampere
GA102), without sparsity. The first entry whose words all stand in the card's name counts. Cards whose power limit keeps
a large product far below that figure (T4, A10, L4) are left out: they would always look slow.
"""

from __future__ import annotations

import re

# words of the name as the driver gives it -> (operations per second, bytes per second)
_CARDS: tuple[tuple[tuple[str, ...], float, float], ...] = (
    (("B200",), 2250e12, 8.0e12),
    (("H200",), 989e12, 4.8e12),
    (("H20",), 148e12, 4.0e12),
    (("H100", "NVL"), 835e12, 3.9e12),
    (("H100", "PCIe"), 756e12, 2.0e12),
    (("H100", "HBM3"), 989e12, 3.35e12),
    (("H800", "PCIe"), 756e12, 2.0e12),
    (("H800",), 989e12, 3.35e12),
    (("A100", "PCIE-40GB"), 312e12, 1.555e12),
    (("A100", "SXM4-40GB"), 312e12, 1.555e12),
    (("A100", "80GB", "PCIe"), 312e12, 1.935e12),
    (("A100", "SXM4-80GB"), 312e12, 2.039e12),
    (("A800", "SXM4-80GB"), 312e12, 2.039e12),
    (("A40",), 149.7e12, 0.696e12),
    (("L40S",), 362e12, 0.864e12),
    (("RTX 4090",), 165e12, 1.008e12),
    (("RTX 3090",), 71e12, 0.936e12),
    (("V100", "SXM2"), 125e12, 0.9e12),
)


def known(name: str) -> tuple[float, float] | None:
    """(operations per second, bytes per second) of a card; None for one that is not in the table, or a part of one."""
    if "MIG" in name or "Laptop" in name or "4090 D" in name or "3090 Ti" in name:
        return None
    return next(
        ((matmul, memory) for words, matmul, memory in _CARDS if all(re.search(rf"\b{w}\b", name) for w in words)), None
    )
