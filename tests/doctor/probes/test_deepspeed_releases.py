"""Faults of single DeepSpeed releases, each beside the situation that looks alike and trains."""

import pytest

from doctor.facts import Facts
from doctor.probes import deepspeed_releases as releases


def facts(stage=3, versions=None, **more):
    buckets = {"stage": stage, "stage3_prefetch_bucket_size": "auto", "reduce_bucket_size": "auto"}
    return Facts(
        {
            "recipe.path": "recipe.yaml",
            "recipe.values": {"gradient_accumulation_steps": 4},
            "recipe.lines": {},
            "packages.versions": versions or {},
            "deepspeed.config_path": "ds.json",
            "deepspeed.config": {"zero_optimization": buckets},
            "launch.world_size": 2,
            "gpu.count": 8,
            "model.config": {"hidden_size": 5120},
            **more,
        }
    )


def causes(judgement, *args, **more):
    return [found.cause for found in judgement(facts(*args, **more))]


@pytest.mark.parametrize(("version", "seen"), [("0.17.5", 0), ("0.17.6", 1), ("0.18.2", 1), ("0.18.3", 0)])
def test_zero2_gradients_by_release(version, seen):
    assert len(causes(releases.zero2_gradients, 2, {"deepspeed": version})) == seen


@pytest.mark.parametrize(
    "healthy",
    [
        {"stage": 3},
        {"recipe.values": {"gradient_accumulation_steps": 1}},
        {"launch.world_size": 1},
        {"deepspeed.config_path": None},
    ],
)
def test_zero2_gradients_need_stage_2_accumulation_and_two_processes(healthy):
    assert causes(releases.zero2_gradients, versions={"deepspeed": "0.18.0"}, **{"stage": 2, **healthy}) == []


def test_checkpointing_memory_only_with_gpus_and_checkpointing():
    versions = {"deepspeed": "0.16.5"}
    assert causes(releases.checkpointing_memory, versions=versions) == ["ds-grad-ckpt-memory-regression"]
    assert causes(releases.checkpointing_memory, versions=versions, **{"gpu.count": 0}) == []
    off = {"recipe.values": {"disable_gradient_checkpointing": True}}
    assert causes(releases.checkpointing_memory, versions=versions, **off) == []
    assert causes(releases.checkpointing_memory, versions={"deepspeed": "0.16.8"}) == []


def test_triton_at_import_only_without_a_gpu():
    versions = {"deepspeed": "0.16.3", "triton": "3.2.0"}
    assert causes(releases.triton_at_import, versions=versions, **{"gpu.count": 0}) == ["ds-import-triton"]
    assert causes(releases.triton_at_import, versions=versions) == []
    assert causes(releases.triton_at_import, versions={**versions, "triton": "3.1.0"}, **{"gpu.count": 0}) == []
    assert causes(releases.triton_at_import, versions={**versions, "deepspeed": "0.16.4"}, **{"gpu.count": 0}) == []


def test_hidden_size_in_text_config():
    nested = {"model.config": {"text_config": {"hidden_size": 4096}}}
    old = {"transformers": "4.45.2"}
    assert causes(releases.hidden_size_nested, versions=old, **nested) == ["ds-hidden-size-auto"]
    assert causes(releases.hidden_size_nested, versions={"transformers": "4.46.1"}, **nested) == []
    assert causes(releases.hidden_size_nested, versions=old) == []
    assert causes(releases.hidden_size_nested, stage=2, versions=old, **nested) == []


def test_prefetch_bucket_with_a_fraction():
    versions = {"deepspeed": "0.15.4", "transformers": "4.44.2"}
    odd = {"model.config": {"hidden_size": 1029}}
    assert causes(releases.prefetch_bucket, versions=versions, **odd) == ["ds-prefetch-bucket-float"]
    assert causes(releases.prefetch_bucket, versions=versions) == []  # 5120 has no fraction
    assert causes(releases.prefetch_bucket, versions={**versions, "transformers": "4.46.1"}, **odd) == []
    assert causes(releases.prefetch_bucket, versions={**versions, "deepspeed": "0.14.4"}, **odd) == []


@pytest.mark.parametrize(
    ("deepspeed", "torch", "seen"),
    [("0.14.0", "2.5.1", 1), ("0.14.4", "2.5.1", 0), ("0.14.0", "2.3.1", 0), ("0.15.4", "2.1.2", 1)],
)
def test_torch_that_a_release_cannot_be_imported_with(deepspeed, torch, seen):
    assert len(causes(releases.torch_fits, versions={"deepspeed": deepspeed, "torch": torch})) == seen


@pytest.mark.parametrize(
    ("values", "seen"),
    [
        ({"use_reentrant_gc": False}, 1),
        ({"gradient_checkpointing_kwargs": {"use_reentrant": False}}, 1),
        ({"use_reentrant_gc": True}, 0),
        ({}, 0),
        ({"use_reentrant_gc": False, "finetuning_type": "full"}, 0),
        ({"use_reentrant_gc": False, "disable_gradient_checkpointing": True}, 0),
    ],
)
def test_frozen_parameters_are_not_recomputed_without_re_entrance(values, seen):
    around = {"recipe.values": values}
    assert len(causes(releases.recomputes_frozen, versions={"deepspeed": "0.18.4"}, **around)) == seen
    assert causes(releases.recomputes_frozen, versions={"deepspeed": "0.19.3"}, **around) == []
    assert causes(releases.recomputes_frozen, stage=2, versions={"deepspeed": "0.18.4"}, **around) == []


@pytest.mark.parametrize(("version", "seen"), [("0.8.3", 0), ("0.9.0", 1), ("0.9.2", 1), ("0.9.3", 0)])
def test_the_world_size_in_the_batch_by_release(version, seen):
    assert len(causes(releases.world_size_in_batch, 3, {"deepspeed": version})) == seen
    assert causes(releases.world_size_in_batch, 2, {"deepspeed": version}) == []
    assert causes(releases.world_size_in_batch, 3, {"deepspeed": version}, **{"launch.world_size": 1}) == []
