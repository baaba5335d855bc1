"""What ranks at work mean: the one that did not come is named, and the GPU that is slow. Figures of 8 GPUs are made up;
tests/stack/test_ranks.py runs real ranks."""

import sys
import time
from pathlib import Path

import pytest

from doctor.examine import judge
from doctor.facts import Facts, Unknown
from doctor.gpu.deep import cards, ranks
from doctor.probes import collective
from tests.support.worlds import world

H100 = "NVIDIA H100 80GB HBM3"
GIB = 1 << 30


def gpu(rank, stage="done", **more):
    return {
        "rank": rank, "stage": stage, "code": 0, "name": H100, "free": 79 * GIB, "total": 80 * GIB, "matmul": 700e12,
        "memory": 2.9e12, "to_device": 55e9, "to_host": 55e9, "to_peer": 380e9, **more,
    }  # fmt: skip


def silent(rank, stage):
    return {"rank": rank, "stage": stage}


def failed(rank, during, exception, message):
    words = {"during": during, "exception": exception, "message": message}
    return {"rank": rank, "stage": "work", "code": 1, "failure": words}


def findings(found, device="cuda", **facts):
    known = {
        "collective.device": device,
        "collective.torch": {},
        "collective.ranks": found,
        "collective.seconds": 9.0,
        "collective.diagnosed": collective._diagnosed(found, Facts()),
        **facts,
    }
    return judge(Facts(known), [collective], {})


def test_eight_sound_gpus_and_two_sound_cpu_ranks_are_no_finding():
    assert findings([gpu(rank, matmul=700e12 - rank * 5e12) for rank in range(8)]) == []
    assert findings([{"rank": r, "stage": "done", "code": 0, "matmul": 1e9} for r in range(2)], "cpu") == []


@pytest.mark.parametrize("stage", ["started", "device", "work", "join", "reduce"])
def test_the_rank_that_came_least_far_is_the_one_that_is_waited_for(stage):
    further = {"started": "join", "device": "join", "work": "join", "join": "reduce"}.get(stage, "done")
    others = [{"rank": r, "stage": further, **({"code": 0} if further == "done" else {})} for r in (0, 1, 3)]
    (finding,) = findings([*others[:2], silent(2, stage), others[2]])
    assert (finding.cause, finding.rank) == ("nccl-timeout", 2)
    assert finding.evidence[0].what.startswith("rank 2 of 4 did not come: it ")


def test_what_the_waiting_ranks_raise_is_an_echo():
    echo = failed(
        0, "together", "DistStoreError", "Timed out after 31 seconds waiting for clients. 1/2 clients joined."
    )
    (finding,) = findings([echo, silent(1, "work")], "cpu")
    assert (finding.cause, finding.rank) == ("nccl-timeout", 1)


def test_when_none_comes_back_no_rank_is_blamed():
    (finding,) = findings([silent(rank, "reduce") for rank in range(8)])
    assert (finding.cause, finding.rank) == ("nccl-timeout", None)
    assert "none of 8 ranks came back: it did not come back from the all-reduce" in finding.evidence[0].what


def test_a_rank_ended_by_a_signal():
    (finding,) = findings([silent(0, "join"), {"rank": 1, "stage": "work", "code": -9}], "cpu")
    assert (finding.cause, finding.rank) == ("nccl-peer-exited", 1)
    assert finding.evidence[0].what == "rank 1 was ended by signal 9"


def test_the_words_of_a_failed_rank_are_diagnosed():
    words = (
        "CUDA out of memory. Tried to allocate 128.00 MiB. GPU 3 has a total capacity of 79.18 GiB of which 0 is free."
    )
    found = [gpu(0), gpu(1), gpu(2), failed(3, "device", "OutOfMemoryError", words)]
    (finding,) = findings(found)
    assert (finding.cause, finding.rank, finding.source) == ("cuda-oom", 3, "probe:collective")
    (finding,) = findings([failed(0, "device", "RuntimeError", "words that nobody knows")])
    assert finding.cause == "cuda-unavailable"


def test_a_gpu_slower_than_the_others_is_named_with_what_is_slow():
    (finding,) = findings([gpu(rank, **({"to_device": 6e9} if rank == 5 else {})) for rank in range(8)])
    assert (finding.cause, finding.rank) == ("gpu-slow", 5)
    assert finding.evidence[0].what == "host to device: 6 GB/s, the others 55 GB/s"
    assert finding.evidence[0].where == f"GPU 5 ({H100})"


def test_a_lone_gpu_is_held_against_its_maker_s_figure_and_an_unknown_card_is_not():
    (finding,) = findings([gpu(0, matmul=200e12)])
    assert finding.evidence[0].what == "matrix products: 200 Top/s, the card's maker says 989 Top/s"
    assert findings([gpu(0, matmul=1e12, name="NVIDIA Some Later Card")]) == []


def test_a_gpu_that_others_use_or_of_another_kind_is_not_called_slow():
    assert findings([gpu(0), gpu(1, matmul=100e12, free=20 * GIB)]) == []
    assert findings([gpu(0), gpu(1, name="NVIDIA L40S", matmul=250e12, memory=0.7e12)]) == []


@pytest.mark.parametrize(
    ("name", "matmul"),
    [
        (H100, 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A100 80GB PCIe", 312e12),
        ("NVIDIA H20", 148e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA B200", 2250e12),
    ],
)
def test_cards(name, matmul):
    assert cards.known(name)[0] == matmul
    assert cards.known(f"{name} MIG 1g.10gb") is None


@pytest.mark.parametrize(
    "name", ["NVIDIA GH200 480GB", "Tesla T4", "NVIDIA A10", "NVIDIA GeForce RTX 4090 D", "cpu", ""]
)
def test_cards_that_are_not_known_or_always_look_slow(name):
    assert cards.known(name) is None


@pytest.mark.parametrize(
    ("visible", "device", "size"),
    [(["0", "1"], "cuda", 2), (["MIG-a", "MIG-b"], "cuda", 1), ([], "cpu", 2)],
)
def test_how_many_ranks_work(tmp_path, monkeypatch, visible, device, size):
    """A process sees one part of a MIG card at most, so one rank works there."""
    asked = []

    def run(python, workdir, environ, count, kind, *_):
        asked.append((kind, count))
        return {"imported": {}, "ranks": [], "seconds": 1.0, "transports": []}

    monkeypatch.setattr(ranks, "run", run)
    monkeypatch.setattr(collective.os, "cpu_count", lambda: 8)
    known = {
        "packages.versions": {"torch": "2.11.0"},
        "gpu.count": len(visible),
        "gpu.visible": visible,
        "launch.nproc": 2,
    }
    collective.collect(world(tmp_path), Facts(known))
    assert asked == [(device, size)]


def test_how_nccl_connects_is_read_from_its_log(tmp_path):
    """Lines as NCCL 2.18 to 2.27 write them (github.com/NVIDIA/nccl, issues 1189 and 1412)."""
    head = "node1:4015540:4015653 [1] NCCL INFO Channel"
    (tmp_path / "nccl.71").write_text(
        f"{head} 00/0 : 1[1] -> 3[1] [receive] via NET/IB/2/GDRDMA\n{head} 01/0 : 1[1] -> 0[0] via P2P/CUMEM\n"
        f"{head} 07/0 : 6[6] -> 3[3] via P2P/direct pointer/read\nnode1:1:2 [1] NCCL INFO Using network IB\n"
    )
    (tmp_path / "nccl.72").write_text(
        f"{head} 00/0 : 0[0] -> 1[1] via SHM/direct/direct\n{head} 00/0 : 0[0] -> 1[1] vi"
    )
    assert ranks.transports(tmp_path) == ["NET/IB", "P2P/CUMEM", "P2P/direct", "SHM/direct"]
    assert ranks.transports(tmp_path / "none") == []


def test_a_target_whose_torch_does_not_import_is_unknown_with_its_words(tmp_path):
    """A real child of this interpreter; the torch that it finds is broken."""
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so.12: cannot open shared object file')\n")
    told = ranks.run(Path(sys.executable), tmp_path, {"PYTHONPATH": str(tmp_path)}, 2, "cpu", 30, 5)
    assert isinstance(told["ranks"], Unknown)
    assert "torch does not import in the target: ImportError: libcudart.so.12" in told["ranks"].reason


def test_an_import_that_hangs_ends_at_its_deadline(tmp_path):
    (tmp_path / "torch.py").write_text("import time; time.sleep(600)\n")
    begun = time.monotonic()
    told = ranks.run(Path(sys.executable), tmp_path, {"PYTHONPATH": str(tmp_path)}, 2, "cpu", 0.5, 5)
    assert told["seconds"].reason == "torch was not imported within 0.5 s"
    assert time.monotonic() - begun < 5
