import socket

import pytest

from doctor.facts import Facts
from doctor.findings import Severity
from doctor.probes import launch
from tests.support.targets import make_target


def collected(tmp_path, gpus=None, **environ):
    known = Facts({} if gpus is None else {"gpu.count": gpus})
    return known.merged(launch.collect(make_target(tmp_path, environ=environ), known))


@pytest.fixture(autouse=True)
def patient_resolver(monkeypatch):
    """What the answer means is tested here; on a loaded machine it takes longer than a user is made to wait."""
    monkeypatch.setattr(launch, "RESOLVE_SECONDS", 60.0)


@pytest.fixture
def busy_port():
    with socket.socket() as held:
        held.bind(("", 0))
        held.listen()
        yield held.getsockname()[1]


def test_documented_defaults(tmp_path):
    facts = collected(tmp_path, gpus=8)
    names = ("nproc", "nnodes", "node_rank", "master_addr", "master_port", "world_size")
    assert [facts[f"launch.{name}"] for name in names] == [8, 1, 0, "127.0.0.1", 29501, 8]
    assert facts["launch.force_torchrun"]


def test_a_machine_without_gpu_starts_one_process_unless_told(tmp_path):
    assert collected(tmp_path, gpus=0)["launch.nproc"] == 1
    assert collected(tmp_path, gpus=0, NPROC_PER_NODE="2", NNODES="3")["launch.world_size"] == 6


def test_without_a_gpu_count_the_world_size_is_unknown(tmp_path):
    assert "GPU count" in collected(tmp_path).why_unknown("launch.nproc")


def test_a_number_that_is_none(tmp_path):
    facts = collected(tmp_path, gpus=1, NNODES="two")
    assert "'two' is not a number" in facts.why_unknown("launch.nnodes")


def test_a_busy_port_is_found_with_a_free_one_beside_it(tmp_path, busy_port):
    facts = collected(tmp_path, gpus=1, MASTER_PORT=str(busy_port))
    (found,) = launch.port_in_use(facts)
    assert found.cause == "launch-port-in-use"
    with socket.socket() as free:
        free.bind(("", found.details["free_port"]))


def test_a_free_port_is_no_finding(tmp_path, busy_port):
    facts = collected(tmp_path, gpus=1, MASTER_PORT=str(launch._port(0, busy_port)["launch.free_port"]))
    assert list(launch.port_in_use(facts)) == []


def test_one_process_without_torchrun_needs_no_port(tmp_path, busy_port):
    one = collected(tmp_path, gpus=1, MASTER_PORT=str(busy_port), FORCE_TORCHRUN="0")
    assert list(launch.port_in_use(one)) == []
    several = collected(tmp_path, gpus=2, MASTER_PORT=str(busy_port), FORCE_TORCHRUN="0")
    assert len(list(launch.port_in_use(several))) == 1


def test_other_nodes_do_not_listen(tmp_path, busy_port):
    facts = collected(tmp_path, gpus=1, MASTER_PORT=str(busy_port), NODE_RANK="1", NNODES="2")
    assert list(launch.port_in_use(facts)) == []


def test_several_nodes_need_a_real_address_and_the_right_variable(tmp_path):
    facts = collected(tmp_path, gpus=8, NNODES="2", RANK="1")
    assert [found.cause for found in launch.master_addr(facts)] == ["launch-master-addr"]
    assert [found.details["node_rank"] for found in launch.renamed_variables(facts)] == ["1"]
    right = collected(tmp_path, gpus=8, NNODES="2", NODE_RANK="1", MASTER_ADDR="10.0.0.1")
    assert list(launch.master_addr(right)) == list(launch.renamed_variables(right)) == []


def test_more_processes_than_gpus(tmp_path):
    (found,) = launch.processes_against_gpus(collected(tmp_path, gpus=1, NPROC_PER_NODE="8"))
    assert found.details == {"gpus": 1, "nproc": 8}
    assert list(launch.processes_against_gpus(collected(tmp_path, gpus=0, NPROC_PER_NODE="2"))) == []


def test_recorded_variables_hide_secrets(tmp_path):
    made_up = "hf_" + "A1b2" * 9
    facts = collected(tmp_path, gpus=1, HF_ENDPOINT=f"https://user:{made_up}@mirror.example", HF_TOKEN=made_up)
    assert "HF_TOKEN" not in facts["launch.environ"]
    assert made_up not in str(facts.to_json())


@pytest.mark.parametrize(
    ("environ", "variable"),
    [
        ({"NPROC_PER_NODE": "two"}, "NPROC_PER_NODE"),
        ({"MASTER_PORT": "29501a"}, "MASTER_PORT"),
        ({"NNODES": "0"}, "NNODES"),
        ({"NODE_RANK": "1"}, "NODE_RANK"),
        ({"NODE_RANK": "2", "NNODES": "2", "MASTER_ADDR": "10.0.0.1"}, "NODE_RANK"),
    ],
)
def test_numbers_that_torchrun_cannot_use(tmp_path, environ, variable):
    facts = collected(tmp_path, gpus=8, **environ)
    judgement = launch.node_rank_fits if variable == "NODE_RANK" else launch.numbers_readable
    assert [found.evidence[0].where for found in judgement(facts)] == [variable]


@pytest.mark.parametrize(
    "environ", [{"NPROC_PER_NODE": "auto"}, {"NNODES": "2", "NODE_RANK": "1"}, {"MASTER_PORT": "1"}]
)
def test_numbers_that_torchrun_takes(tmp_path, environ):
    facts = collected(tmp_path, gpus=8, **environ)
    assert list(launch.numbers_readable(facts)) == list(launch.node_rank_fits(facts)) == []


def test_a_master_without_an_address(tmp_path):
    several = {"NNODES": "2", "NODE_RANK": "1"}
    unknown = collected(tmp_path, gpus=8, MASTER_ADDR="node0.cluster.invalid", **several)
    assert [found.cause for found in launch.master_addr(unknown)] == ["launch-master-addr"]
    known = collected(tmp_path, gpus=8, MASTER_ADDR="192.0.2.7", **several)
    assert list(launch.master_addr(known)) == []


def test_a_single_node_meets_at_its_own_address(tmp_path):
    """torchrun is given --master_addr with one node, too, and waits there in vain."""
    unknown = collected(tmp_path, gpus=8, MASTER_ADDR="node0.cluster.invalid")
    elsewhere = collected(tmp_path, gpus=8, MASTER_ADDR="192.0.2.7")
    for facts, severity in ((unknown, None), (elsewhere, None)):
        assert [(f.cause, f.severity) for f in launch.master_addr(facts)] == [("launch-master-addr", severity)]
    for gpus, environ in ((1, {"MASTER_ADDR": "192.0.2.7"}), (8, {"MASTER_ADDR": "127.0.0.2"}), (8, {"MASTER_ADDR": "::1"}),
                          (8, {"MASTER_ADDR": socket.gethostbyname(socket.gethostname())})):  # fmt: skip
        assert list(launch.master_addr(collected(tmp_path, gpus=gpus, **{"FORCE_TORCHRUN": "0", **environ}))) == []


def test_a_foreign_address_at_node_0_may_be_a_virtual_one(tmp_path):
    several = {"NNODES": "2", "MASTER_ADDR": "192.0.2.7"}
    facts = collected(tmp_path, gpus=8, NODE_RANK="0", **several)
    assert [f.severity for f in launch.master_addr(facts)] == [Severity.WARNING]
    for rank in ({"NODE_RANK": "1"}, {}):  # a scheduler may still have to say which node this is
        assert list(launch.master_addr(collected(tmp_path, gpus=8, **rank, **several))) == []


def test_ranks_left_over_from_another_launch(tmp_path):
    left = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    (found,) = launch.stale_ranks(collected(tmp_path, gpus=1, FORCE_TORCHRUN="0", **left))
    assert found.cause == "launch-rank-env-stale"
    assert list(launch.stale_ranks(collected(tmp_path, gpus=1, FORCE_TORCHRUN="1", **left))) == []
    assert list(launch.stale_ranks(collected(tmp_path, gpus=1, FORCE_TORCHRUN="0"))) == []


def test_a_process_for_each_gpu_where_there_is_none(tmp_path):
    (found,) = launch.numbers_readable(collected(tmp_path, gpus=0, NPROC_PER_NODE="gpu"))
    assert (found.cause, found.evidence[0].where) == ("launch-variable-invalid", "NPROC_PER_NODE")
    assert list(launch.numbers_readable(collected(tmp_path, gpus=2, NPROC_PER_NODE="gpu"))) == []
    assert list(launch.numbers_readable(collected(tmp_path, gpus=0, NPROC_PER_NODE="cpu"))) == []


@pytest.mark.parametrize(
    ("addr", "fault"),
    [
        ("127.0.0.1", False),
        ("127.0.1.1", False),
        ("127.0.0.1:29573", True),
        ("127.0.0.1x", True),
        ("127.0.0.256", True),
    ],
)
def test_an_address_that_is_none(tmp_path, addr, fault):
    facts = collected(tmp_path, gpus=0, FORCE_TORCHRUN="1", MASTER_ADDR=addr)
    assert bool(facts["launch.master_unknown"]) is fault


@pytest.mark.parametrize(
    ("nodes", "release", "fault"),
    [
        ("1:1", "0.9.1", False),
        ("1:2", "0.9.1", False),
        ("2:1", "0.9.1", True),
        ("1:1", "0.9.5", True),
        ("1:", "0.9.1", True),
    ],
)
def test_from_so_many_nodes_to_so_many(tmp_path, nodes, release, fault):
    facts = collected(tmp_path, gpus=0, FORCE_TORCHRUN="1", NNODES=nodes)
    facts = facts.merged({"llamafactory.version": release})
    assert bool(list(launch.numbers_readable(facts))) is fault


def test_port_0_is_bound_and_met_by_nobody(tmp_path):
    (found,) = launch.port_in_use(collected(tmp_path, gpus=0, FORCE_TORCHRUN="1", MASTER_PORT="0"))
    assert found.cause == "launch-port-in-use"
    assert found.details["free_port"]
