"""Published outcomes, directions that must hold for every recipe, and the nearest changes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doctor.estimate import World, estimate
from doctor.estimate import settings as recipes
from doctor.estimate.changes import nearest
from doctor.estimate.shape import from_config, from_parameters
from doctor.estimate.timeline import Run
from doctor.recipe import known_models

GIB = 1 << 30
QWEN_32B = known_models.config("Qwen/Qwen2.5-32B-Instruct")
SKY = {
    "finetuning_type": "full", "bf16": True, "cutoff_len": 16384, "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 12, "deepspeed": "z3.json", "num_train_epochs": 3.0, "save_steps": 100,
}  # fmt: skip


def zero(stage, optimizer="none", parameters="none"):
    parts = {"offload_optimizer": {"device": optimizer}, "offload_param": {"device": parameters}}
    return {"zero_optimization": {"stage": stage, **parts}}


FULL_OFFLOAD = zero(3, "cpu", "cpu")
H100 = int(79.18 * GIB)
ROUNDING = 1.005  # a block that is not split counts whole, up to 1 MiB more for each tensor


@pytest.mark.parametrize(
    ("gpus", "host", "verdict"),
    [(8, 1.7e12, "fits"), (1, 744e9, "does not fit"), (8, 600e9, "does not fit")],
)
def test_published_runs_of_32b_with_full_offload(gpus, host, verdict):
    found = estimate(SKY, QWEN_32B, FULL_OFFLOAD, World(gpus, 1, H100, int(host)))
    assert found.verdict == verdict


def test_33b_with_full_offload_uses_what_was_published():
    found = estimate(SKY, 33e9, FULL_OFFLOAD, World(8, 1, H100, int(800e9)))
    assert found.host_bytes_certain > 600e9
    assert 750e9 < found.host_bytes_certain < 800e9
    assert found.verdict == "cannot tell"


def test_32b_without_offload_does_not_fit_8_cards():
    found = estimate(SKY, QWEN_32B, zero(3), World(8, 1, H100, int(1.7e12)))
    assert found.verdict == "does not fit"
    assert found.gpu_bytes_certain > 77e9


def test_golden_figures_of_the_recipe():
    found = estimate(SKY, QWEN_32B, FULL_OFFLOAD, World(8, 1, H100, int(1.7e12)), records=17000)
    assert found.gpu_bytes_per_rank == pytest.approx(50.8 * GIB, rel=0.01)
    assert found.checkpoint_bytes == pytest.approx(459e9, rel=0.01)
    assert found.disk_bytes == pytest.approx(6 * 459e9 + 65.5e9, rel=0.02)
    assert sum(found.parts.values()) == pytest.approx(found.gpu_bytes_per_rank, rel=0.01)


def test_without_gpus_nothing_is_said_of_the_fit():
    found = estimate(SKY, QWEN_32B, FULL_OFFLOAD, World())
    assert (found.verdict, found.changes) == ("cannot tell", [])
    assert found.gpu_bytes_per_rank > 0


def test_a_config_that_says_too_little_gives_none():
    assert estimate(SKY, {"model_type": "unheard-of"}, None, World()) is None


def use(**more):
    values = {"finetuning_type": "full", "bf16": True, "per_device_train_batch_size": 1, "cutoff_len": 2048}
    return values | more


ONE = World()


def needed(values, deepspeed=None, world=ONE, model="Qwen/Qwen2.5-1.5B"):
    shape = from_config(known_models.config(model))
    return Run(shape, recipes.read(values, deepspeed), world).play(2).allocated


_LENGTHS = st.sampled_from([512, 1024, 4096, 8192])
_ENGINES = st.sampled_from([None, zero(1), zero(2), zero(3), zero(2, "cpu"), FULL_OFFLOAD])
_KINDS = st.sampled_from(["full", "lora", "freeze"])


@settings(max_examples=25, deadline=None)
@given(_LENGTHS, st.integers(1, 4), _ENGINES, _KINDS, st.booleans())
def test_more_tokens_never_need_less(length, batch, engine, kind, off):
    values = use(
        cutoff_len=length, per_device_train_batch_size=batch, finetuning_type=kind, disable_gradient_checkpointing=off
    )
    base = needed(values, engine)
    assert needed(values | {"cutoff_len": 2 * length}, engine) * ROUNDING >= base
    assert needed(values | {"per_device_train_batch_size": batch + 1}, engine) * ROUNDING >= base


@settings(max_examples=25, deadline=None)
@given(_LENGTHS, st.sampled_from([zero(1), zero(2), zero(3)]), st.integers(2, 8))
def test_more_ranks_never_need_more(length, engine, ranks):
    values = use(cutoff_len=length)
    assert needed(values, engine, World(2 * ranks)) <= needed(values, engine, World(ranks)) * ROUNDING


@settings(max_examples=25, deadline=None)
@given(_LENGTHS, _ENGINES, st.booleans())
def test_savings_save(length, engine, off):
    values = use(cutoff_len=length, disable_gradient_checkpointing=off)
    if length >= 4096:  # for few tokens the gradient that liger holds is larger than the logits
        assert needed(values | {"enable_liger_kernel": True}, engine) <= needed(values, engine) * ROUNDING
    assert needed(values | {"disable_gradient_checkpointing": False}, engine) <= needed(values, engine) * ROUNDING
    assert needed(values | {"finetuning_type": "lora"}, engine) <= needed(values, engine) * ROUNDING


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([zero(1), zero(2), zero(3)]), st.integers(2, 16))
def test_higher_stages_and_offload_never_need_more_states(engine, ranks):
    world, values = World(ranks), use(cutoff_len=512)
    stage = engine["zero_optimization"]["stage"]
    if stage < 3:
        larger = needed(values, engine, world, "Qwen/Qwen2.5-32B")
        assert needed(values, zero(stage + 1), world, "Qwen/Qwen2.5-32B") <= larger * ROUNDING
    assert needed(values, zero(stage, "cpu"), world) <= needed(values, engine, world) * ROUNDING


def test_the_nearest_changes_fit_and_the_free_one_comes_first():
    shape = from_config(known_models.config("Qwen/Qwen2.5-1.5B"))
    world = World(1, 1, H100, int(500e9))
    values = use(cutoff_len=16384, per_device_train_batch_size=4)
    changes = nearest(shape, recipes.read(values, None), world)
    assert next(iter(changes[0].set)) == "enable_liger_kernel"
    for change in changes:
        assert change.gpu_bytes_per_rank <= H100
    batch = next(change for change in changes if change.note == "batch")
    assert batch.set == {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}


def test_where_no_single_change_suffices_several_are_combined():
    shape = from_parameters(32e9)
    values = use(cutoff_len=32768, per_device_train_batch_size=4)
    changes = nearest(shape, recipes.read(values, None), World(8, 1, int(23.6 * GIB), int(2e12)))
    assert len(changes) == 1
    assert changes[0].note == "together"
    assert len(changes[0].set) > 1


def test_an_adapter_that_does_not_fit_may_freeze_in_4_bits():
    shape = from_config(known_models.config("Qwen/Qwen2.5-7B"))
    values = use(finetuning_type="lora", cutoff_len=1024)
    changes = nearest(shape, recipes.read(values, None), World(1, 1, int(12 * GIB), int(64e9)))
    assert {"quantization_bit": 4} in [change.set for change in changes]


@pytest.mark.parametrize(
    "more", [{"use_galore": True}, {"stage": "dpo"}, {"quantization_bit": 4, "quantization_method": "hqq"}]
)
def test_what_is_not_modelled_gets_no_verdict(more):
    found = estimate(SKY | more, QWEN_32B, None, World(8, 1, H100, int(1.7e12)))
    assert (found.verdict, found.changes) == ("cannot tell", [])
    assert found.reason.startswith("not modelled")


def test_a_size_alone_gives_no_verdict_near_the_limit():
    known = estimate(use(), known_models.config("Qwen/Qwen2.5-3B"), None, World(1, 1, int(54 * GIB)))
    rough = estimate(use(), 3.09e9, None, World(1, 1, int(54 * GIB)))
    assert known.verdict == "fits"
    assert rough.verdict == "cannot tell"
