"""`check --deep` shows what it measured of each rank and how the GPUs are linked."""

import io

import pytest
from rich.console import Console

from doctor.commands.check import ranks_view
from doctor.facts import Facts, Unknown
from doctor.report.ranks_text import ranks

GPU = {"stage": "done", "name": "NVIDIA H100 80GB HBM3", "matmul": 780e12, "memory": 2.97e12, "bus": 329e9}
FACTS = {
    "collective.device": "cuda",
    "collective.ranks": [{"rank": n, **GPU} for n in range(2)],
    "collective.seconds": 8.1,
    "collective.transports": ["P2P/CUMEM"],
    "gpu.topology": [["self", "NVLink"], ["NVLink", "self"]],
}


def shown(facts, lang="en"):
    out = io.StringIO()
    ranks(Console(file=out, width=200), ranks_view(Facts(facts)), lang)
    return out.getvalue()


def test_figures_and_links():
    text = shown(FACTS)
    assert "2 ranks at work, 8.1 s; connected by P2P/CUMEM" in text
    assert "rank 1  NVIDIA H100 80GB HBM3, matmul 780 Top/s, memory 2,970 GB/s, all-reduce 329 GB/s" in text
    assert "GPU1    NVLink  X" in text
    assert "个 rank 实测" in shown(FACTS, "zh")


def test_ranks_on_the_cpu_and_one_that_did_not_come():
    facts = {**FACTS, "collective.transports": [], "gpu.topology": None}
    facts["collective.ranks"] = [
        {"rank": 0, "stage": "join", "name": "cpu", "matmul": 5e9},
        {"rank": 1, "stage": "work"},
    ]
    text = shown(facts)
    assert "rank 0  cpu, matmul 0.0 Top/s" in text
    assert "rank 1  work" in text
    assert "links" not in text


@pytest.mark.parametrize("facts", [{}, {"collective.ranks": Unknown("torch is not installed")}])
def test_without_ranks_there_is_nothing_to_show(facts):
    assert ranks_view(Facts(facts)) == {}
