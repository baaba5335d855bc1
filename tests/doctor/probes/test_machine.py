import pytest

from doctor.facts import Facts, Unknown
from doctor.machine import limits_judged
from doctor.probes import machine
from knowledge_base.schema import Severity
from tests.support.worlds import world

GB = 10**9
OFFLOAD = {
    "zero_optimization": {"stage": 3, "offload_optimizer": {"device": "cpu"}, "offload_param": {"device": "cpu"}}
}
DISK = {"path": "/d/saves/run", "at": "/d", "device": 1, "free": 10_000 * GB, "total": 20_000 * GB, "inodes_free": 10**6,
        "write_error": None}  # fmt: skip
NEEDED = {"hub.needed": [{"key": "model_name_or_path", "name": "Qwen/Qwen2.5-32B-Instruct"}]}
LIMITS = {"memlock": -1, "nofile": 1048576, "nproc": -1, "stack": 8 << 20, "address_space": -1}
H100 = [{"index": n, "memory_total": 80 * 2**30} for n in range(8)]


def facts(recipe=None, disks=None, **more) -> Facts:
    """The published run: the 32B model on 8 cards of 80 GB with full offload, 1.7 TB of memory, a large disk."""
    values = {"model_name_or_path": "Qwen/Qwen2.5-32B-Instruct", "finetuning_type": "full", "deepspeed": "ds.json",
              "output_dir": "saves/run", "save_steps": 100, "per_device_train_batch_size": 1,
              "gradient_accumulation_steps": 12, "num_train_epochs": 3.0, **(recipe or {})}  # fmt: skip
    return Facts({
        "recipe.path": "r.yaml", "recipe.values": values, "recipe.lines": {"deepspeed": 8, "output_dir": 19},
        "model.parameters": 32.76e9, "model.parameters_from": "its configuration",
        "deepspeed.config": OFFLOAD, "deepspeed.config_path": "ds.json", "gpu.count": 8, "gpu.devices": H100,
        "launch.nproc": 8, "launch.nnodes": 1, "launch.world_size": 8, "hub.needed": [],
        "machine.memory_total": 1700 * GB, "machine.memory_available": 1650 * GB, "machine.cgroup_memory": None,
        "machine.limits": LIMITS, "machine.user": 1000, "machine.infiniband": [],
        "machine.cpus": 64, "machine.cgroup_cpus": None,
        "machine.cgroup_memory_used": None, "machine.shm": {"total": 850 * GB, "free": 850 * GB}, "machine.roomy": [],
        "machine.disks": {"output_dir": DISK, "datasets_cache": DISK, "hf_cache": DISK, "tmp": DISK, **(disks or {})},
        "records.scans": {"Sky-T1": {"rows": None, "read": 17000, "complete": True, "bytes_total": 300 * 10**6}},
        **more,
    })  # fmt: skip


def judged(known):
    return [finding for rule in machine.JUDGEMENTS for finding in rule(known)]


def causes(known):
    return [finding.cause for finding in judged(known)]


def test_the_published_run_is_healthy():
    assert judged(facts()) == []


# -- host memory --------------------------------------------------------------------------------------------------------
def test_memory_that_cannot_suffice():
    (finding,) = judged(facts(**{"machine.memory_total": 512 * GB, "machine.memory_available": 500 * GB}))
    assert (finding.cause, finding.severity, finding.evidence[0].where) == ("mem-host-oom", None, "r.yaml:8")
    assert "590 GB, 885 GB by DeepSpeed's estimate" in finding.evidence[0].what
    assert (finding.details["params_offloaded"], finding.details["gpu_has_room"]) == (True, False)


def test_memory_that_may_not_suffice():
    """Above what runs were seen to use, below DeepSpeed's estimate with buffers."""
    (finding,) = judged(facts(**{"machine.memory_total": 800 * GB, "machine.memory_available": 790 * GB}))
    assert (finding.severity, finding.confidence) == (Severity.WARNING, 0.6)


def test_memory_that_was_seen_not_to_suffice():
    """744 GB: killed in one report, while the states alone are 590 GB."""
    (finding,) = judged(facts(**{"machine.memory_total": 744 * GB, "machine.memory_available": 740 * GB}))
    assert (finding.severity, finding.confidence) == (None, 0.95)
    assert "runs of this kind were seen to use" in finding.evidence[0].what


def test_memory_that_others_hold():
    (finding,) = judged(facts(**{"machine.memory_available": 100 * GB}))
    assert finding.severity is Severity.WARNING
    assert "100 GB are free now" in finding.evidence[0].what


def test_a_cgroup_limit_counts_not_the_machine():
    (finding,) = judged(facts(**{"machine.cgroup_memory": 256 * GB, "machine.cgroup_memory_used": 0}))
    assert finding.severity is None
    assert "cgroup limit: 256 GB" in finding.evidence[0].what


def test_cards_that_could_hold_what_is_offloaded():
    small = {"model.parameters": 7.6e9, "machine.memory_total": 100 * GB, "machine.memory_available": 90 * GB}
    (finding,) = [f for f in judged(facts(**small)) if f.cause == "mem-host-oom"]
    assert finding.details["gpu_has_room"] is True


@pytest.mark.parametrize("recipe", [{"finetuning_type": "lora"}, {}])
def test_what_needs_no_such_memory(recipe):
    little = {"machine.memory_total": 64 * GB, "machine.memory_available": 60 * GB}
    config = {} if recipe else {"zero_optimization": {"stage": 3}}
    assert "mem-host-oom" not in causes(facts(recipe, **little, **({"deepspeed.config": config} if config else {})))


def test_a_model_of_unknown_size_is_not_guessed():
    known = facts(
        {"model_name_or_path": "/models/mine"}, **{"model.parameters": Unknown("no config"), "machine.memory_total": GB}
    )
    assert judged(known) == []


def test_the_size_in_the_name_serves_where_nothing_else_does():
    known = facts(**{"model.parameters": Unknown("not on this machine"), "machine.memory_total": 64 * GB})
    assert "size by its name" in judged(known)[0].evidence[0].what


# -- disk ---------------------------------------------------------------------------------------------------------------
def test_a_disk_too_small_for_one_checkpoint():
    known = facts(
        disks={"output_dir": {**DISK, "free": 200 * GB}},
        **{"machine.roomy": [{"path": "/big", "device": 2, "free": 5000 * GB}]},
    )
    (finding,) = judged(known)
    assert (finding.cause, finding.severity, finding.evidence[0].where) == ("disk-full", None, "r.yaml:19")
    assert finding.details["output_dir"] == "/big/run"
    assert "save_total_limit" not in finding.details


def test_a_disk_too_small_for_the_whole_run():
    (finding,) = judged(facts(disks={"output_dir": {**DISK, "free": 1600 * GB}}))
    assert finding.severity is Severity.WARNING
    assert "6 of them and the model" in finding.evidence[0].what
    assert finding.details["save_total_limit"] == 2
    assert judged(facts({"save_total_limit": 2}, disks={"output_dir": {**DISK, "free": 1600 * GB}})) == []


def test_records_that_were_not_counted():
    scan = {"Sky-T1": {"rows": None, "read": 100, "complete": False}}
    assert judged(facts(disks={"output_dir": {**DISK, "free": 1600 * GB}}, **{"records.scans": scan})) == []


@pytest.mark.parametrize(
    ("name", "error", "cause"),
    [
        ("output_dir", "EROFS", "disk-readonly"),
        ("output_dir", "EACCES", "disk-readonly"),
        ("output_dir", "EDQUOT", "disk-quota"),
        ("output_dir", "ENOSPC", "disk-full"),
        ("datasets_cache", "EACCES", "hub-cache-permission"),
        ("datasets_cache", "EROFS", "disk-readonly"),
        ("datasets_cache", "ENOSPC", "disk-full"),
        ("tmp", "EDQUOT", "disk-quota"),
    ],
)
def test_folders_that_cannot_be_written(name, error, cause):
    assert causes(facts(disks={name: {**DISK, "write_error": error}})) == [cause]


def test_a_model_cache_matters_only_when_something_is_downloaded():
    broken = {"hf_cache": {**DISK, "write_error": "EACCES"}}
    assert causes(facts(disks=broken)) == []
    assert causes(facts(disks=broken, **NEEDED)) == ["hub-cache-permission"]


def test_a_cache_without_room_for_the_download():
    (finding,) = judged(facts(disks={"hf_cache": {**DISK, "free": 60 * GB}}, **NEEDED))
    assert (finding.cause, finding.severity) == ("disk-full", None)
    assert "the model takes 65.5 GB" in finding.evidence[0].what
    assert judged(facts(disks={"hf_cache": {**DISK, "free": 70 * GB}}, **NEEDED)) == []


def test_caches_on_a_full_disk():
    full = {"datasets_cache": {**DISK, "free": GB}, "tmp": {**DISK, "inodes_free": 0}}
    cache, tmp = judged(facts(disks=full, **{"machine.roomy": [{"path": "/big", "device": 2, "free": 9 * 10**13}]}))
    assert (cache.severity, cache.details["cache_disk_full"], cache.details["roomy_dir"]) == (
        Severity.WARNING,
        True,
        "/big",
    )
    assert (tmp.severity, tmp.details["tmp_disk_full"]) == (None, True)
    assert "no inodes are left" in tmp.evidence[0].what


def test_a_mount_that_did_not_answer_is_not_judged():
    assert judged(facts(disks={"output_dir": {"path": "/nfs", "unknown": "did not answer"}})) == []


# -- shared memory ------------------------------------------------------------------------------------------------------
def test_the_shared_memory_of_a_container():
    small = {"machine.shm": {"total": 64 << 20, "free": 64 << 20}}
    assert causes(facts(**small)) == ["nccl-shm-too-small"]
    assert causes(facts({"dataloader_num_workers": 4}, **small)) == ["nccl-shm-too-small", "mem-shm"]
    assert causes(facts(**small, **{"launch.nproc": 1})) == []
    assert causes(facts({"dataloader_num_workers": 4})) == []


def test_a_large_one_that_is_full_is_as_good_as_a_small_one():
    left = {"bytes": 30 * GB, "files": 700, "examples": ["nccl-abc"]}
    full = facts(**{"machine.shm": {"total": 850 * GB, "free": 1 << 20}, "machine.shm_left": left})
    (found,) = judged(full)
    assert found.cause == "nccl-shm-too-small"
    assert "of which 1 MiB are free (700 files that no process has open" in found.evidence[0].what
    assert "nccl-abc" in found.evidence[0].what
    assert causes(full.merged({"machine.shm_left": None})) == ["nccl-shm-too-small"]


def test_memory_that_ended_runs_hold():
    left = {"bytes": 100 * GB, "files": 1500, "examples": ["deepspeed_allreduce_buffer_0_x"]}
    (found,) = judged(facts(**{"machine.shm_left": left}))
    assert (found.cause, found.severity) == ("mem-shm-leftovers", None)
    assert "100 GB" in found.evidence[0].what
    assert causes(facts(**{"machine.shm_left": {**left, "bytes": 10 * GB}})) == []


# -- collecting ---------------------------------------------------------------------------------------------------------
def test_collect(tmp_path):
    target = world(tmp_path, environ={"HF_DATASETS_CACHE": str(tmp_path / "ds")})
    known = Facts(machine.collect(target, Facts({"recipe.values": {"output_dir": "saves/x"}})))
    disks = known["machine.disks"]
    assert set(disks) == {"output_dir", "hf_cache", "datasets_cache", "tmp", "torch_extensions"}
    assert disks["output_dir"]["path"] == str(tmp_path / "work" / "saves" / "x")
    assert disks["datasets_cache"]["path"] == str(tmp_path / "ds")
    assert disks["hf_cache"]["path"] == str(tmp_path / "home" / ".cache" / "huggingface" / "hub")
    assert known["machine.memory_total"] > 0
    assert known["machine.limits"]["nofile"] != 0
    assert list((tmp_path / "work").iterdir()) == [tmp_path / "work" / "recipe.yaml"]


# -- limits -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("limits", "more", "cause"),
    [
        ({"nofile": 256}, {}, "launch-too-many-open-files"),
        ({"nofile": 1024}, {}, None),
        ({"nproc": 1000}, {}, "launch-thread-limit"),
        ({"nproc": 1000}, {"machine.user": 0}, None),
        ({"nproc": 4096}, {}, None),
        ({"memlock": 8 << 20}, {}, None),
        ({"memlock": 8 << 20}, {"launch.nnodes": 3}, None),
        ({"memlock": 8 << 20}, {"launch.nnodes": 3, "machine.infiniband": ["mlx5_0"]}, "nccl-memlock"),
        ({"memlock": -1}, {"launch.nnodes": 3, "machine.infiniband": ["mlx5_0"]}, None),
    ],
)
def test_the_limits_of_the_shell(limits, more, cause):
    known = facts(**{"machine.limits": {**LIMITS, **limits}, **more})
    found = [f for rule in limits_judged.ALL for f in rule(known)]
    assert [f.cause for f in found] == ([cause] if cause else [])
