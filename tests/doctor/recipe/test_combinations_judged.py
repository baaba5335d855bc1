import pytest

from doctor.facts import Facts
from doctor.recipe import combinations_judged

ODD = (None, True, 5, -1, 10**400, float("inf"), float("nan"), "auto", "", [], [[1]], {}, {"a": {}})
KEYS = ("use_ipex", "use_mps_device", "gradient_checkpointing_kwargs", "past_index", "use_muon", "oft_rank")
MODULES = {
    "modules": ["down_proj", "q_proj"],
    "outline": {"model.layers.*.self_attn.q_proj.weight": {"shapes": [[8, 8]]}},
}


def said(**values):
    facts = Facts(
        {
            "recipe.values": values,
            "recipe.path": "r.yaml",
            "arguments.fields": KEYS,
            "deepspeed.config": {"zero_optimization": {"stage": 3}},
            "model.weights": MODULES,
        }
    )
    return [finding.cause for judgement in combinations_judged.ALL for finding in judgement(facts)]


@pytest.mark.parametrize(
    ("values", "cause"),
    [
        ({"eval_on_start": True}, "cfg-eval-without-val"),
        ({"deepspeed": "a", "save_only_model": True, "load_best_model_at_end": True}, "cfg-conflicting-args"),
        ({"deepspeed": "a", "auto_find_batch_size": True}, "cfg-conflicting-args"),
        ({"deepspeed": "a", "use_muon": True}, "cfg-conflicting-args"),
        ({"deepspeed": "a", "fsdp": "full_shard auto_wrap"}, "cfg-conflicting-args"),
        ({"gradient_accumulation_steps": 2, "accelerator_config": {"gradient_accumulation_kwargs": {"num_steps": 4}}},
         "cfg-conflicting-args"),
        ({"stage": "dpo", "group_by_length": True}, "cfg-conflicting-args"),
        ({"stage": "rm", "train_sampling_strategy": "group_by_length"}, "cfg-conflicting-args"),
        ({"use_ipex": True}, "pkg-missing"),
        ({"use_mps_device": True}, "cfg-conflicting-args"),
        ({"finetuning_type": "oft", "oft_rank": 8}, "cfg-conflicting-args"),
        ({"finetuning_type": "oft", "oft_block_size": 0}, "cfg-bad-value-type"),
        ({"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"reentrant": 1}}, "cfg-conflicting-args"),
        ({"past_index": 2}, "cfg-conflicting-args"),
        ({"quantization_bit": 5}, "cfg-bad-value-type"),
        ({"mix_strategy": "interleave_over", "interleave_probs": "1.5,-0.5"}, "cfg-bad-value-type"),
        ({"lora_target": "q_proj,self_attn"}, "peft-target-modules-missing"),
        ({"lora_target": "q_proj, ,down_proj"}, "peft-target-modules-missing"),
        ({"lora_target": ".*q_proj"}, "peft-target-modules-missing"),
    ],
)  # fmt: skip
def test_what_is_refused(values, cause):
    assert said(**values) == [cause]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"eval_on_start": True, "val_size": 0.1},
        {"save_only_model": True, "load_best_model_at_end": True},
        {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}},
        {"stage": "sft", "group_by_length": True},
        {"stage": "dpo", "train_sampling_strategy": "random"},
        {"past_index": -1},
        {"past_index": 0},
        {"use_muon": True},
        {"quantization_bit": 3, "quantization_method": "hqq"},
        {"lora_target": "all"},
        {"lora_target": ["q_proj", "down_proj"]},
        {"lora_target": "self_attn.q_proj"},
        {"lora_target": "self_attn", "finetuning_type": "full"},
    ],
)
def test_what_is_not(values):
    assert said(**values) == []


@pytest.mark.parametrize("odd", ODD)
def test_any_value_is_survived(odd):
    for key in (*KEYS, "accelerator_config", "lora_target", "interleave_probs", "quantization_bit", "eval_on_start"):
        said(**{"gradient_checkpointing": True, "mix_strategy": "interleave_over", "deepspeed": "a", key: odd})


@pytest.mark.parametrize(
    ("transformers", "cutoff", "refused"), [("5.6.0", 4096, True), ("5.6.0", 2048, False), ("4.57.1", 4096, False)]
)
def test_a_longer_context_that_is_no_whole_number(transformers, cutoff, refused):
    facts = Facts({
        "recipe.values": {"rope_scaling": "linear", "cutoff_len": cutoff}, "recipe.path": "r.yaml",
        "arguments.length_as_fraction": True, "packages.versions": {"transformers": transformers},
        "model.config": {"max_position_embeddings": 2048},
    })  # fmt: skip
    causes = [finding.cause for finding in combinations_judged.length_extended(facts)]
    assert causes == ["cfg-conflicting-args"] * refused


@pytest.mark.parametrize(
    ("stage", "values", "fault"),
    [(2, {"do_eval": True}, True), (0, {"do_predict": True}, True), (3, {"do_eval": True}, False), (2, {}, False),
     (2, {"do_eval": True, "do_train": True}, False)],
)  # fmt: skip
def test_a_run_without_training_under_deepspeed(stage, values, fault):
    facts = Facts(
        {
            "recipe.values": {"deepspeed": "a", **values},
            "recipe.path": "r.yaml",
            "arguments.fields": KEYS,
            "deepspeed.config": {"zero_optimization": {"stage": stage}},
        }
    )
    causes = [finding.cause for finding in combinations_judged.deepspeed_allows(facts)]
    assert causes == (["ds-inference-stage"] if fault else [])


@pytest.mark.parametrize(
    ("release", "more", "fault"),
    [("0.9.1", {"do_predict": True}, True), ("0.9.5", {"do_predict": True}, False), (None, {"do_predict": True}, False),
     ("0.9.1", {"do_train": True, "val_size": 0.1}, False)],
)  # fmt: skip
def test_a_system_prompt_that_is_handed_to_the_model(release, more, fault):
    values = {"default_system": "Be brief.", "predict_with_generate": True, **more}
    facts = Facts({"recipe.values": values, "recipe.path": "r.yaml", "llamafactory.version": release})
    assert bool(list(combinations_judged.system_is_no_setting(facts))) is fault
