"""`skyt1-doctor estimate` as users run it, and the probe that asks the planner before the launch."""

import json
import subprocess
import sys
import time

import pytest

from doctor import details
from doctor.commands.estimate import gpus, memory
from doctor.errors import BadInput
from doctor.estimate import from_facts
from doctor.facts import Facts
from doctor.findings import Evidence, Finding, Severity
from doctor.probes.memory import too_large

GIB = 1 << 30
RECIPE = """\
model_name_or_path: Qwen/Qwen2.5-32B-Instruct
stage: sft
do_train: true
finetuning_type: full
deepspeed: zero3.json
cutoff_len: 16384
per_device_train_batch_size: 1
bf16: true
output_dir: saves
"""
ZERO3 = {"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "cpu"}, "offload_param": {"device": "cpu"}}}


@pytest.fixture
def workdir(tmp_path):
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "zero3.json").write_text(json.dumps(ZERO3))
    return tmp_path


def run(workdir, *options):
    code = "import sys; from doctor.cli import run; sys.exit(run(sys.argv[1:]))"
    words = [sys.executable, "-c", code, "estimate", "recipe.yaml", "--workdir", str(workdir), "--python"]
    return subprocess.run([*words, sys.executable, *options], capture_output=True, text=True, check=False)


def test_json_holds_the_contract(workdir):
    done = run(workdir, "--gpus", "8x80GB", "--host-memory", "1.7TB", "--format", "json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)["estimate"]
    contract = {"gpu_bytes_per_rank", "host_bytes_per_node", "checkpoint_bytes", "disk_bytes", "parts", "verdict"}
    assert contract | {"changes"} <= shown.keys()
    assert shown["verdict"] == "fits"


def test_a_run_that_does_not_fit_is_exit_code_1_with_changes(workdir):
    done = run(workdir, "--gpus", "8x24GB", "--format", "json")
    assert done.returncode == 1
    shown = json.loads(done.stdout)["estimate"]
    assert shown["verdict"] == "does not fit"
    for change in shown["changes"]:
        assert change["gpu_bytes_per_rank"] <= 24 * GIB
        assert change["note"]


def test_text_in_chinese(workdir):
    done = run(workdir, "--gpus", "8x24GB", "--lang", "zh")
    assert "放不下" in done.stdout


def test_wrong_sizes_are_one_sentence(workdir):
    done = run(workdir, "--gpus", "many")
    assert done.returncode == 2
    assert "8x80GB" in done.stderr


def test_no_torch_is_imported_and_the_arithmetic_is_quick():
    code = (
        "import sys, time; from doctor.estimate import World, estimate; from doctor.recipe import known_models\n"
        "began = time.process_time()\n"
        "config = known_models.config('Qwen/Qwen2.5-32B')\n"
        "estimate({'finetuning_type': 'full', 'bf16': True, 'cutoff_len': 16384}, config,"
        " {'zero_optimization': {'stage': 3}}, World(8, 1, 80 << 30, 10**12))\n"
        "print(time.process_time() - began, 'torch' in sys.modules, 'numpy' in sys.modules)"
    )
    seconds, *imported = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert imported == ["False", "False"]
    assert float(seconds) < 1.5  # with all changes tried; a fitting run takes a tenth


def test_a_fitting_answer_takes_less_than_half_a_second_of_cpu():
    facts = world_of_facts({"cutoff_len": 16384}, gpus=8, card=80 * GIB, config=ZERO3)
    began = time.process_time()
    assert from_facts.of(facts).verdict == "fits"
    assert time.process_time() - began < 0.5


def test_sizes():
    assert gpus("8x80GB")[0] == 8
    assert gpus("24")[0] == 1
    assert memory("1.7TB") == int(1.7e12)
    assert memory("512GiB") == 512 * GIB
    for wrong in ("0x80GB", "", "x"):
        with pytest.raises(BadInput):
            gpus(wrong)


def world_of_facts(recipe, gpus=1, card=80 * GIB, config=None, model="Qwen/Qwen2.5-32B"):
    from doctor.recipe import known_models

    devices = [{"index": i, "memory_total": card} for i in range(gpus)]
    values = {"do_train": True, "finetuning_type": "full", "bf16": True, "per_device_train_batch_size": 1, **recipe}
    return Facts(
        {
            "recipe.values": values, "recipe.lines": {"per_device_train_batch_size": 7}, "recipe.path": "recipe.yaml",
            "model.config": known_models.config(model), "model.name": model, "deepspeed.config": config,
            "gpu.count": gpus, "gpu.devices": devices, "launch.nproc": max(1, gpus), "launch.nnodes": 1,
            "machine.memory_total": int(2e12), "machine.cgroup_memory": None, "packages.versions": {},
        }
    )  # fmt: skip


def test_the_probe_names_a_run_that_is_clearly_too_large():
    (found,) = too_large(world_of_facts({"cutoff_len": 8192}, model="Qwen/Qwen2.5-7B"))
    assert (found.cause, found.severity) == ("cuda-oom", Severity.ERROR)
    assert found.evidence[0].where == "recipe.yaml:7"
    assert "GiB" in found.evidence[0].what


def test_the_probe_offers_the_changes_that_suffice():
    recipe = {"cutoff_len": 8192, "per_device_train_batch_size": 8}
    (found,) = too_large(world_of_facts(recipe, model="Qwen/Qwen2.5-1.5B"))
    assert found.details["accumulation_for_same_batch"] == 8


def test_the_probe_is_silent_where_it_fits_or_no_gpu_is_seen():
    assert list(too_large(world_of_facts({"cutoff_len": 1024}, model="Qwen/Qwen2.5-0.5B"))) == []
    assert list(too_large(world_of_facts({"cutoff_len": 65536}, gpus=0))) == []


def test_after_an_oom_in_a_log_the_planner_names_the_cutoff_that_fits():
    seen = Finding("cuda-oom", (Evidence("out of memory", "log:7"),), source="log")
    facts = world_of_facts({"cutoff_len": 16384, "disable_gradient_checkpointing": True}, model="Qwen/Qwen2.5-1.5B")
    (found,) = details.complete([seen], facts)
    shorter = found.details["shorter_cutoff_len"]
    assert shorter < 16384
    fitting = facts.merged({"recipe.values": {**facts["recipe.values"], "cutoff_len": shorter}})
    assert from_facts.of(fitting).verdict == "fits"
    (unseen,) = details.complete([seen], facts.merged({"gpu.count": 0}))
    assert "shorter_cutoff_len" not in unseen.details
    hopeless = world_of_facts({"cutoff_len": 4096}, model="Qwen/Qwen2.5-32B")
    assert "shorter_cutoff_len" not in details.complete([seen], hopeless)[0].details


def test_the_card_that_counts_is_the_smallest_that_the_launch_sees():
    facts = world_of_facts({}, gpus=2)
    devices = [{"index": 0, "memory_total": 24 * GIB}, {"index": 1, "memory_total": 80 * GIB}]
    facts = facts.merged({"gpu.devices": devices})
    assert from_facts.world(facts).gpu_bytes < 24 * GIB
    assert from_facts.world(facts.merged({"gpu.visible": ["1"]})).gpu_bytes > 79 * GIB
    parts = {"index": 0, "memory_total": 80 * GIB, "mig_devices": [{"uuid": "MIG-a", "memory_total": 10 * GIB}]}
    seen = facts.merged({"gpu.devices": [parts], "gpu.visible": ["MIG-a"]})
    assert from_facts.world(seen).gpu_bytes < 10 * GIB


def test_the_probe_names_a_host_that_cannot_hold_what_ranks_load():
    """Under ZeRO-2 each rank reads the whole model, widened; one copy is sure, eight at once are to be expected."""
    zero2 = {"zero_optimization": {"stage": 2}}
    facts = world_of_facts({"cutoff_len": 1024}, gpus=8, config=zero2, model="Qwen/Qwen2.5-7B")
    for host, severity in ((30e9, Severity.ERROR), (200e9, Severity.WARNING), (400e9, None)):
        found = list(too_large(facts.merged({"machine.memory_total": int(host)})))
        assert [f.severity for f in found if f.cause == "mem-host-oom"] == ([severity] if severity else [])
