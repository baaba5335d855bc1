"""How the GPUs of a machine are linked, pair by pair, by NVML, and as a picture like that of `nvidia-smi topo -m`."""

from __future__ import annotations

from typing import Any

# nvmlGpuTopologyLevel_t: what a pair has in common, nearest first
LEVELS = {0: "same board", 10: "PIX", 20: "PXB", 30: "PHB", 40: "NODE", 50: "SYS"}
NVLINK = "NVLink"
_NVLINK_CAPS = 2  # NVML_P2P_CAPS_INDEX_NVLINK
_P2P_OK = 0


def read(nvml: Any, count: int) -> list[list[str | None]]:
    """`table[a][b]`: "NVLink" where the pair may use it, else the level of PCIe that joins it, None where NVML does not
    say (a lost card, a virtual machine that hides the bus); "self" on the diagonal."""
    handles = [_ask(nvml, nvml.nvmlDeviceGetHandleByIndex, index) for index in range(count)]
    table: list[list[str | None]] = [["self" if a == b else None for b in range(count)] for a in range(count)]
    for a in range(count):
        for b in range(a + 1, count):
            if handles[a] is not None and handles[b] is not None:
                table[a][b] = table[b][a] = _pair(nvml, handles[a], handles[b])
    return table


def _pair(nvml: Any, one: Any, other: Any) -> str | None:
    if _ask(nvml, nvml.nvmlDeviceGetP2PStatus, one, other, _NVLINK_CAPS) == _P2P_OK:
        return NVLINK
    level = _ask(nvml, nvml.nvmlDeviceGetTopologyCommonAncestor, one, other)
    return None if level is None else LEVELS.get(level, str(level))


def _ask(nvml: Any, call: Any, *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except nvml.NVMLError:
        return None


def drawn(table: list[list[str | None]]) -> list[str]:
    """The table in lines, aligned; "?" is what is not known."""
    words = [["X" if word == "self" else word or "?" for word in row] for row in table]
    names = [f"GPU{index}" for index in range(len(table))]
    wide = max((len(word) for row in (names, *words) for word in row), default=0) + 2
    lines = ["".join(f"{word:<{wide}}" for word in ["", *names]).rstrip()]
    return lines + [
        "".join(f"{word:<{wide}}" for word in [name, *row]).rstrip() for name, row in zip(names, words, strict=True)
    ]


def odd_ones(table: list[list[str | None]]) -> list[tuple[int, int]]:
    """Pairs without NVLink where most pairs have it and both cards have it with others."""
    linked = [{b for b, word in enumerate(row) if word == NVLINK} for row in table]
    pairs = [(a, b) for a in range(len(table)) for b in range(a + 1, len(table)) if table[a][b] != "self"]
    missing = [(a, b) for a, b in pairs if table[a][b] not in (NVLINK, None)]
    return (
        missing
        if missing and len(missing) * 4 <= len(pairs) and all(linked[a] or linked[b] for a, b in missing)
        else []
    )
