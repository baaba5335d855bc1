"""How GPUs are linked: the table, its picture, and the pair that stands apart."""

import pytest

from doctor.gpu import topology
from tests.support.fake_nvml import FakeNvml, NVMLError_NotSupported

SWITCHED = {"nvlinks": 18}


def read(devices):
    return topology.read(FakeNvml(devices), len(devices))


def test_eight_behind_switches():
    table = read([SWITCHED] * 8)
    assert all(table[a][b] == ("self" if a == b else "NVLink") for a in range(8) for b in range(8))
    assert topology.odd_ones(table) == []


def test_eight_on_two_sockets_without_nvlink():
    table = read([{}] * 8)
    assert (table[0][1], table[0][4], table[4][0]) == ("NODE", "SYS", "SYS")
    assert topology.odd_ones(table) == []


def test_a_pair_whose_link_is_down_stands_out():
    table = read([SWITCHED, SWITCHED, {**SWITCHED, "apart": [3]}, SWITCHED])
    assert topology.odd_ones(table) == [(2, 3)]


def test_bridged_pairs_are_no_fault():
    """Two bridges of two cards: most pairs have no NVLink, and that is how it was built."""
    devices = [{**SWITCHED, "apart": [2, 3]}, {**SWITCHED, "apart": [2, 3]}, SWITCHED, SWITCHED]
    assert topology.odd_ones(read(devices)) == []


@pytest.mark.parametrize("hidden", ["level"])
def test_a_machine_that_hides_its_bus_is_unknown(hidden):
    table = read([{"unsupported": [hidden]}] * 2)
    assert table == [["self", None], [None, "self"]]
    assert topology.drawn(table) == ["      GPU0  GPU1", "GPU0  X     ?", "GPU1  ?     X"]
    assert NVMLError_NotSupported  # what NVML raised


def test_no_gpu_and_one():
    assert topology.drawn([]) == [""]
    assert read([{}]) == [["self"]]
