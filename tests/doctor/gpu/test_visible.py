import pytest

from doctor.gpu.visible import visible

EIGHT = [{"index": n, "uuid": f"GPU-{n}aaaa-{n}"} for n in range(8)]
MIG = [
    {"index": 0, "uuid": "GPU-0a", "mig_devices": [{"uuid": "MIG-1a"}, {"uuid": "MIG-1b"}]},
    {"index": 1, "uuid": "GPU-1a"},
]


def test_all_are_seen_when_nothing_is_said():
    assert visible(None, EIGHT) == ([str(n) for n in range(8)], None)


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ("0", ["0"]),
        ("3,1", ["3", "1"]),
        (" 2 , 5 ", ["2", "5"]),
        ("1gpu,2ampere", ["1", "2"]),
        ("GPU-3aaaa", ["3"]),
        ("GPU-3aaaa-3,GPU-0", ["3", "0"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
    ],
)
def test_lists_that_mean_what_they_say(value, seen):
    assert visible(value, EIGHT) == (seen, None)


@pytest.mark.parametrize(
    ("value", "seen", "word"),
    [
        ("0,1,8,2", ["0", "1"], "8 names no GPU"),
        ("8", [], "8 names no GPU"),
        ("0,-1,1", ["0"], "-1 names no GPU"),
        ("0,0", [], "named twice"),
        ("GPU-9", [], "GPU-9 names no GPU"),
        ("GPU-", [], "GPU- names no GPU"),
        ("0,,1", ["0"], "an empty entry"),
        ("all", [], "all names no GPU"),
    ],
)
def test_lists_that_hide_more_than_meant(value, seen, word):
    found, fault = visible(value, EIGHT)
    assert found == seen
    assert fault is not None
    assert word in fault


def test_mig():
    assert visible(None, MIG) == (["MIG-1a", "1"], None)
    assert visible("MIG-1b", MIG) == (["MIG-1b"], None)
    assert visible("0", MIG) == (["MIG-1a"], None)
    assert visible("MIG-2", MIG)[0] == []


def test_a_lost_gpu_is_not_seen():
    devices = [EIGHT[0], {"index": 1, "error": "gpu is lost"}]
    assert visible(None, devices) == (["0"], None)
    assert visible("0,1", devices)[0] == ["0"]


def test_no_gpu_at_all():
    assert visible(None, []) == ([], None)
    assert visible("0", [])[1] is not None
