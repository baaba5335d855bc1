"""Arguments that a run looks at only beside others, and what is said of a value that is never used."""

import pytest

from doctor.facts import Facts
from doctor.recipe.looked_at import looked_at


def asked(key, more=None, **values):
    return looked_at(Facts({"recipe.values": values, **(more or {})}), key)


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("quantization_type", {"quantization_bit": 4}),
        ("badam_mode", {"use_badam": True}),
        ("pref_loss", {"stage": "dpo"}),
        ("reward_model_type", {"stage": "ppo"}),
        ("mix_strategy", {"dataset": "a,b"}),
        ("mix_strategy", {"dataset": ["a", "b"]}),
        ("buffer_size", {"streaming": True}),
        ("run_name", {"report_to": "wandb"}),
        ("kt_lora_expert_num", {"use_kt": True}),
        ("eval_num_beams", {"predict_with_generate": True}),
        ("liger_kernel_config", {"use_liger_kernel": True}),
        ("eval_delay", {"eval_strategy": "steps"}),
        ("per_device_eval_batch_size", {"val_size": 0.1}),
        ("trackio_space_id", {"report_to": ["trackio"]}),
    ],
)
def test_beside_another(key, values):
    assert asked(key, **values)
    assert not asked(key, dataset="a")


def test_never_and_always():
    assert not asked("infer_dtype", do_train=True)
    assert asked("finetuning_type")


def test_media_and_experts() -> None:
    local = {"model.local": True, "model.files": ["config.json"], "model.config": {"hidden_size": 8}}
    for key in ("video_fps", "audio_sampling_rate", "moe_aux_loss_coef"):
        assert asked(key)
        assert not asked(key, local)
        assert asked(key, {**local, "model.files": ["preprocessor_config.json"], "model.config": {"num_experts": 4}})
    assert not asked("image_min_pixels", local, image_min_pixels=0.5)
    assert asked("image_min_pixels", local, image_min_pixels="x")


def test_a_folder_of_this_machine_needs_no_cache():
    assert asked("cache_dir")
    assert not asked("cache_dir", {"model.local": True})


def test_a_scaling_that_is_not_reached():
    more = {"arguments.length_as_fraction": True, "model.config": {"max_position_embeddings": 2048}}
    assert not asked("rope_scaling", more, cutoff_len=2048)
    assert asked("rope_scaling", more, cutoff_len=4096)
    assert asked("rope_scaling", {}, cutoff_len=2048)


def test_a_loss_that_trl_does_not_ask_for():
    assert not asked("pref_loss", {"arguments.loss_is_sigmoid": True}, stage="dpo")
