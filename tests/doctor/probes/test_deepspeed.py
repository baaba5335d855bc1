"""DeepSpeed's judgements, each beside the situation that looks alike and trains."""

import contextlib
import json

import pytest

from doctor.facts import Facts, Unknown, UnknownFact
from doctor.probes import deepspeed
from doctor.recipe import deepspeed_batch_judged
from tests.support.targets import add_files, make_target

ENTERS = "        with self.accelerator.accumulate(model):\n"
GUARDED = "if self.kind == DistributedType.DEEPSPEED:\n    x\nelse:\n    f = partial(self.accelerator.no_sync, model)\n"
RUNS_NUMACTL = "def get_numa_cores():\n    ret = []\n    output = subprocess.check_output(['numactl', '--hardware'])\n"
TRIES_NUMACTL = RUNS_NUMACTL.replace("    output", "    try:\n        output")


def story(**more):
    """Facts of the published recipe on two CPU processes with deepspeed 0.16.2 and transformers 4.46.1."""
    return Facts(
        {
            "recipe.path": "recipe.yaml",
            "recipe.values": {
                "gradient_accumulation_steps": 12,
                "per_device_train_batch_size": 1,
                "deepspeed": "ds.json",
            },
            "recipe.lines": {"gradient_accumulation_steps": 26, "deepspeed": 8},
            "packages.versions": {"deepspeed": "0.16.2", "transformers": "4.46.1"},
            "deepspeed.config_path": "ds.json",
            "deepspeed.config": {"zero_optimization": {"stage": 3}},
            "deepspeed.config_error": None,
            "deepspeed.has_no_sync": True,
            "deepspeed.trainer_enters_no_sync": True,
            "deepspeed.cpu_runs_numactl": False,
            "launch.world_size": 2,
            "launch.nproc": 2,
            "launch.environ": {},
            "gpu.count": 0,
            "tools.numactl": None,
            **more,
        }
    )


def test_no_sync_names_versions_stage_and_line():
    (found,) = deepspeed.no_sync(story())
    assert found.cause == "ds-no-sync-zero"
    assert found.evidence[0].where == "recipe.yaml:26"
    assert "deepspeed 0.16.2" in found.evidence[0].what
    assert (found.details["global_batch"], found.details["global_batch_without_accumulation"]) == (24, 2)
    assert found.details["cpu_without_numactl"] is True


@pytest.mark.parametrize(
    "healed",
    [
        {"launch.world_size": 1},
        {"deepspeed.has_no_sync": False},
        {"deepspeed.trainer_enters_no_sync": False},
        {"deepspeed.config": {"zero_optimization": {"stage": 0}}},
        {"recipe.values": {"gradient_accumulation_steps": 1}},
        {"deepspeed.config_path": None, "deepspeed.config": None},
    ],
)
def test_no_sync_is_not_entered(healed):
    assert list(deepspeed.no_sync(story(**healed))) == []


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_every_stage_with_partitioning_is_hit(stage):
    """Dropping to ZeRO-2 or ZeRO-1 does not help: each ends in an assertion of its own (measured)."""
    (found,) = deepspeed.no_sync(story(**{"deepspeed.config": {"zero_optimization": {"stage": stage}}}))
    assert found.details["stage"] == stage


def test_numactl_only_where_the_release_runs_it_unguarded_on_cpu():
    (found,) = deepspeed.numactl(story(**{"deepspeed.cpu_runs_numactl": True}))
    assert found.cause == "env-numactl-missing"
    for healed in ({"launch.environ": {"LOCAL_SIZE": "2"}}, {"tools.numactl": "/usr/bin/numactl"}, {"gpu.count": 8}):
        assert list(deepspeed.numactl(story(**{"deepspeed.cpu_runs_numactl": True, **healed}))) == []


def test_use_cpu_makes_zero_3_count_one_process():
    values = {"use_cpu": True, "deepspeed": "ds.json"}
    config = {"train_batch_size": "auto", "zero_optimization": {"stage": 3}}
    wrong = {"recipe.values": values, "deepspeed.config": config}
    (found,) = deepspeed.cpu_world_size(story(**wrong))
    assert found.cause == "ds-cpu-world-size"
    trains = (
        {"launch.world_size": 1},
        {"deepspeed.config": {**config, "zero_optimization": {"stage": 2}}},
        {"deepspeed.config": {"zero_optimization": {"stage": 3}}},
    )
    for other in trains:
        assert list(deepspeed.cpu_world_size(story(**{**wrong, **other}))) == []


def test_batch_arithmetic():
    wrong = {"train_batch_size": 8, "train_micro_batch_size_per_gpu": 1, "gradient_accumulation_steps": 4}
    right = {**wrong, "gradient_accumulation_steps": 4, "train_batch_size": 8}
    (found,) = deepspeed_batch_judged.batch_arithmetic(story(**{"deepspeed.config": wrong, "launch.world_size": 1}))
    assert "8 is not 1 × 4 × 1 = 4" in found.evidence[0].what
    assert list(deepspeed_batch_judged.batch_arithmetic(story(**{"deepspeed.config": right}))) == []


def test_a_number_in_quotes_is_not_the_recipe_s_number():
    config = {"gradient_accumulation_steps": "12", "zero_optimization": {"stage": 3}}
    (found,) = deepspeed_batch_judged.disagrees_with_recipe(story(**{"deepspeed.config": config}))
    assert found.details["auto_values"] == {"gradient_accumulation_steps": "auto"}
    auto = {"gradient_accumulation_steps": "auto", "train_micro_batch_size_per_gpu": 1, "gradient_clipping": 1.0}
    assert list(deepspeed_batch_judged.disagrees_with_recipe(story(**{"deepspeed.config": auto}))) == []


def test_a_fixed_total_beside_automatic_parts_is_the_recipe_s():
    """2 processes × 12 steps × 1 record: transformers compares 24 with it."""
    wrong = {"train_batch_size": 7, "gradient_accumulation_steps": "auto"}
    (found,) = deepspeed_batch_judged.total_disagrees_with_recipe(story(**{"deepspeed.config": wrong}))
    assert found.cause == "ds-config-hf-mismatch"
    assert found.details["auto_values"] == {"train_batch_size": "auto"}
    for config in ({**wrong, "train_batch_size": 24}, {**wrong, "train_batch_size": "auto"}):
        assert list(deepspeed_batch_judged.total_disagrees_with_recipe(story(**{"deepspeed.config": config}))) == []


def test_a_file_of_that_name_elsewhere_or_of_a_name_spelt_almost_so(tmp_path):
    target = make_target(tmp_path, recipe="deepspeed: examples/ds_z3_config.json\n")
    folder = target.workdir / "examples/deepspeed"
    folder.mkdir(parents=True)
    (folder / "ds_z3_config.json").write_text("{}")
    (folder / "ds_z2_offload_config.json").write_text("{}")

    def existing(named):
        facts = Facts({"recipe.path": "recipe.yaml", "recipe.values": {"deepspeed": named}, "recipe.lines": {}})
        facts = facts.merged(deepspeed.collect(target, facts))
        return next(deepspeed.config_unusable(facts)).details.get("existing_ds_config")

    assert existing("examples/ds_z3_config.json") == "examples/deepspeed/ds_z3_config.json"
    assert existing("examples/deepspeed/ds_z3_confg.json") == "examples/deepspeed/ds_z3_config.json"
    assert existing("examples/deepspeed/ds_z2_config.json") is None  # offload or another stage is another thing


def facts_of(tmp_path, config=None, files=None, named="ds.json"):
    target = make_target(tmp_path, recipe=f"deepspeed: {named}\n")
    if config is not None:
        (target.workdir / "ds.json").write_text(config, encoding="utf-8")
    add_files(target.site[0], {"deepspeed/__init__.py": "", "transformers/__init__.py": "", **(files or {})})
    return Facts(deepspeed.collect(target, Facts({"recipe.values": {"deepspeed": named}})))


def test_sources_decide_not_version_numbers(tmp_path):
    files = {
        "deepspeed/runtime/engine.py": "class Engine:\n    def no_sync(self):\n        pass\n",
        "deepspeed/utils/numa.py": RUNS_NUMACTL,
        "transformers/trainer.py": ENTERS,
    }
    facts = facts_of(tmp_path, json.dumps({"zero_optimization": {"stage": 3}}), files)
    assert facts["deepspeed.has_no_sync"]
    assert facts["deepspeed.cpu_runs_numactl"]
    assert facts["deepspeed.trainer_enters_no_sync"]


def test_mended_sources(tmp_path):
    files = {
        "deepspeed/runtime/engine.py": "class Engine: pass\n",
        "deepspeed/utils/numa.py": TRIES_NUMACTL,
        "transformers/trainer.py": GUARDED,
    }
    facts = facts_of(tmp_path, "{}", files)
    assert not facts["deepspeed.has_no_sync"]
    assert not facts["deepspeed.cpu_runs_numactl"]
    assert not facts["deepspeed.trainer_enters_no_sync"]


@pytest.mark.parametrize(("config", "kind"), [(None, "missing"), ("{,}", "syntax"), ("[]", "shape")])
def test_a_json_that_cannot_be_used(tmp_path, config, kind):
    facts = facts_of(tmp_path, config)
    assert facts["deepspeed.config_error"]["kind"] == kind
    assert not facts.known("deepspeed.config")
    cause = "ds-config-missing" if kind == "missing" else "ds-config-invalid"
    judged = story(**{name: facts._values[name] for name in facts if name.startswith("deepspeed.config")})
    judged = judged.merged({"deepspeed.existing_config": None})
    (found,) = deepspeed.config_unusable(judged)
    assert found.cause == cause
    assert found.details.get("json_syntax_error", False) == (kind == "syntax")


def test_a_package_that_is_not_there_is_unknown(tmp_path):
    target = make_target(tmp_path, recipe="deepspeed: ds.json\n")
    facts = Facts(deepspeed.collect(target, Facts({"recipe.values": {"deepspeed": "ds.json"}})))
    assert isinstance(facts._values["deepspeed.has_no_sync"], Unknown)


def test_without_deepspeed_in_the_recipe_nothing_is_read(tmp_path):
    facts = deepspeed.collect(make_target(tmp_path), Facts({"recipe.values": {}}))
    assert facts["deepspeed.config_path"] is None


def test_values_that_the_classes_refuse_are_corrected_in_one_edit():
    refused = [
        {"path": "zero_optimization.stage", "kind": "choice", "text": "stage is 4", "meant": 3},
        {"path": "zero_optimization.overlapp_comm", "kind": "unknown key", "text": "no key", "meant": "overlap_comm"},
    ]
    config = {"zero_optimization": {"stage": 4, "overlapp_comm": False}}
    (found,) = deepspeed.config_refused(story(**{"deepspeed.config": config, "deepspeed.refused": refused}))
    assert found.cause == "ds-config-invalid"
    assert found.details["corrected_values"] == {
        "zero_optimization.stage": 3,
        "zero_optimization.overlap_comm": False,
    }
    assert found.details["removed_keys"] == ["zero_optimization.overlapp_comm"]


def test_a_broken_bucket_size_has_a_cause_of_its_own():
    at = "zero_optimization.stage3_prefetch_bucket_size"
    refused = [{"path": at, "kind": "fraction", "text": f"{at} is 3686.4", "meant": 3686}]
    (found,) = deepspeed.config_refused(story(**{"deepspeed.refused": refused}))
    assert (found.cause, found.details["prefetch_bucket"]) == ("ds-prefetch-bucket-float", 3686)


def test_nvme_needs_a_folder(tmp_path):
    config = {"zero_optimization": {"stage": 3, "offload_param": {"device": "nvme", "nvme_path": str(tmp_path)}}}
    (tmp_path / "work").mkdir()
    (tmp_path / "work/ds.json").write_text(json.dumps(config))
    target = make_target(tmp_path)
    there = deepspeed.collect(target, Facts({"recipe.values": {"deepspeed": "ds.json"}}))
    assert list(deepspeed.nvme_path(Facts(there))) == []
    (tmp_path / "work/ds.json").write_text(json.dumps(config).replace(str(tmp_path), "/nowhere"))
    absent = deepspeed.collect(target, Facts({"recipe.values": {"deepspeed": "ds.json"}}))
    assert [f.cause for f in deepspeed.nvme_path(Facts(absent))] == ["ds-offload-nvme"]


@pytest.mark.parametrize(
    ("optim", "forced", "named"), [("adafactor", None, 1), ("adamw_torch", None, 0), ("adafactor", False, 0)]
)
def test_only_adamw_is_offloaded(optim, forced, named):
    config = {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}}
    config |= {} if forced is None else {"zero_force_ds_cpu_optimizer": forced}
    facts = story(**{"deepspeed.config": config, "recipe.values": {"optim": optim}, "recipe.lines": {"optim": 3}})
    assert [f.cause for f in deepspeed.offloaded_optimizer(facts)] == ["ds-offload-client-optimizer"] * named


def test_no_judgement_minds_a_recipe_without_deepspeed():
    facts = story(**{"deepspeed.config": None, "deepspeed.config_path": None, "recipe.values": {}})
    for judgement in deepspeed.JUDGEMENTS:
        with contextlib.suppress(UnknownFact):
            assert list(judgement(facts)) == []


@pytest.mark.parametrize(
    ("kind", "near"),
    [("Adamm", "Adam"), ("adamw", None), ("OneBitAdam", None), ("SGD", None), ("sgd", "SGD")],
)
def test_optimizers_that_neither_deepspeed_nor_torch_has(kind, near):
    found = list(deepspeed.optimizer_known(story(**{"deepspeed.config": {"optimizer": {"type": kind}}})))
    assert [f.details["corrected_values"]["optimizer.type"] for f in found] == ([near] if near else [])


def test_a_byte_order_mark_is_an_error_of_syntax(tmp_path):
    facts = facts_of(tmp_path, "\ufeff{}")
    assert facts["deepspeed.config_error"]["kind"] == "syntax"


def test_the_nearest_name_of_another_kind_is_only_proposed(tmp_path):
    target = make_target(tmp_path, recipe="deepspeed: ds_z3_ofload_config.json\n")
    (target.workdir / "ds_z3_offload_config.json").write_text("{}")
    facts = Facts(
        {"recipe.path": "r.yaml", "recipe.values": {"deepspeed": "ds_z3_ofload_config.json"}, "recipe.lines": {}}
    )
    (found,) = deepspeed.config_unusable(facts.merged(deepspeed.collect(target, facts)))
    assert found.details.get("existing_ds_config") is None
    assert found.details["near_ds_config"].endswith("ds_z3_offload_config.json")


@pytest.mark.parametrize(("written", "severity"), [("3", None), ("2", "warning")])
def test_a_stage_in_quotes_is_a_number_to_deepspeed_alone(written, severity):
    config = {"zero_optimization": {"stage": written}}
    (found,) = deepspeed.stage_as_text(story(**{"deepspeed.config": config}))
    assert (found.cause, found.severity) == ("ds-config-invalid", severity)
    assert found.details["corrected_values"] == {"zero_optimization.stage": int(written)}


@pytest.mark.parametrize("zero", [{"stage": 3}, {"stage": "auto"}, {}, None, 3])
def test_a_stage_without_quotes_is_fine(zero):
    assert list(deepspeed.stage_as_text(story(**{"deepspeed.config": {"zero_optimization": zero}}))) == []


@pytest.mark.parametrize(
    ("config", "told"),
    [({}, 1), ({"gradient_accumulation_steps": 2}, 1), ({"train_batch_size": "auto"}, 0),
     ({"elasticity": {"enabled": True}}, 0), ({"train_micro_batch_size_per_gpu": 1}, 0)],
)  # fmt: skip
def test_one_of_the_batch_sizes_is_wanted(config, told):
    found = list(deepspeed_batch_judged.batch_given(story(**{"deepspeed.config": config})))
    assert [one.cause for one in found] == ["ds-batch-size-mismatch"] * told
