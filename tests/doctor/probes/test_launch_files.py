import json

import pytest

from doctor.facts import Facts
from doctor.probes import launch_files
from knowledge_base.schema import Severity
from tests.support.worlds import world


def collected(tmp_path, nnodes=1, **environ):
    known = Facts({"launch.nnodes": nnodes})
    return known.merged(launch_files.collect(world(tmp_path, environ=environ), known))


def found(facts):
    return list(launch_files.deepspeed_env(facts))


@pytest.fixture
def work(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def test_no_file(tmp_path):
    facts = collected(tmp_path)
    assert facts["launch_files.deepspeed_env"] == []
    assert found(facts) == []


def test_another_clusters_file(tmp_path, work):
    (work / ".deepspeed_env").write_text(
        "PATH=/gone/bin:/gone/too:/usr/bin\nMASTER_PORT=29400\nWORLD_SIZE=32\nHF_TOKEN=hf_secret\n"
    )
    (finding,) = found(collected(tmp_path, nnodes=3))
    assert finding.severity is Severity.WARNING
    assert finding.details["file"] == ".deepspeed_env"
    what = finding.evidence[0].what
    assert "MASTER_PORT=29400" in what
    assert "PATH names 2 folders" in what
    assert "hf_secret" not in json.dumps(collected(tmp_path).to_json())


def test_one_node_does_not_read_it(tmp_path, work):
    (work / ".deepspeed_env").write_text("WORLD_SIZE=32\n")
    assert [f.severity for f in found(collected(tmp_path))] == [Severity.INFO]


def test_a_file_that_only_sets_nccl_is_fine(tmp_path, work):
    (work / ".deepspeed_env").write_text("NCCL_DEBUG=INFO\nNCCL_SOCKET_IFNAME=eth0\nPATH=/usr/bin:/bin:/gone\n")
    assert found(collected(tmp_path, nnodes=3)) == []


def test_a_line_that_deepspeed_cannot_split(tmp_path, work):
    (work / ".deepspeed_env").write_text("NCCL_DEBUG=INFO\n\nexport X\n")
    (finding,) = found(collected(tmp_path, nnodes=2))
    assert "line 2 is not NAME=VALUE" in finding.evidence[0].what


def test_home_and_another_name(tmp_path, work):
    (tmp_path / "home" / "my_env").write_text("RANK=1\n")
    facts = collected(tmp_path, DS_ENV_FILE="my_env")
    assert facts["launch_files.deepspeed_env"][0]["file"] == str(tmp_path / "home" / "my_env")


def test_the_names_of_the_launch_profile(tmp_path, work):
    (work / ".skyt1-doctor").mkdir()
    (work / ".skyt1-doctor" / "launch.env").write_text("WANDB_MODE=offline\nMASTER_PORT=29502\n")
    assert collected(tmp_path)["launch_files.profile"] == ["MASTER_PORT", "WANDB_MODE"]
