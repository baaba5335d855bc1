import pytest

from doctor.recipe import argument_source, key_history, refusals, value_types
from tests.doctor.recipe import standin


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    packages = standin.site(tmp_path_factory.mktemp("site"))
    return argument_source.read(packages / "llamafactory", packages / "transformers")


def fields(source):
    return {name: f for cls in source.groups["train"] for name, f in source.classes[cls].fields.items()}


def test_fields_with_inheritance_across_packages(source):
    assert source.groups["train"] == ["ModelArguments", "DataArguments", "Seq2SeqTrainingArguments"]
    known = fields(source)
    assert {"trust_remote_code", "lora_rank", "output_dir", "predict_with_generate"} <= known.keys()
    assert not {"derived", "KIND"} & known.keys()
    assert known["output_dir"].required
    assert not known["learning_rate"].required


@pytest.mark.parametrize(
    ("name", "types", "choices"),
    [
        ("finetuning_type", ["str"], ["lora", "full"]),
        ("quantization_bit", ["int", "None"], []),
        ("quantization_method", ["str"], ["bnb"]),
        ("eval_strategy", ["str"], ["no", "steps", "epoch"]),
        ("report_to", ["None", "str", "list"], []),
        ("deepspeed", ["dict", "str", "None"], []),
    ],
)
def test_types_and_choices(source, name, types, choices):
    field = fields(source)[name]
    assert (field.types, field.choices) == (types, choices)


def follow(source, mode="distributed", **given):
    values = {"model_name_or_path": "m", "template": "t", "dataset": "d", "output_dir": "o", **given}
    environment = {"parallel_mode": mode, "ParallelMode.DISTRIBUTED": "distributed"}
    return refusals.follow(source, values, "train", environment, {"is_env_enabled": False})


@pytest.mark.parametrize(
    ("given", "message", "keys"),
    [
        ({}, None, None),
        ({"val_size": 0.1, "eval_dataset": "e"}, "Cannot specify `val_size` if `eval_dataset` is not None.",
         ["eval_dataset", "val_size"]),
        ({"eval_strategy": "steps"}, "Please specify dataset for evaluation.", ["do_eval", "eval_dataset", "val_size"]),
        ({"eval_strategy": "steps", "val_size": 0.1}, None, None),
        ({"eval_strategy": "step"}, "'step' is not a valid IntervalStrategy, please select one of [no, steps, epoch]",
         ["eval_strategy"]),
        ({"load_best_model_at_end": True}, "--load_best_model_at_end requires the save and eval strategy to match: no",
         ["eval_strategy", "load_best_model_at_end", "save_strategy"]),
        ({"fp16": True, "bf16": True}, "At most one of fp16 and bf16 can be True, but not both", ["bf16", "fp16"]),
        ({"quantization_bit": 4, "finetuning_type": "full"}, "Quantization is only compatible with the LoRA method.",
         ["finetuning_type", "quantization_bit"]),
        ({"model_name_or_path": None}, "Please provide `model_name_or_path`.", ["model_name_or_path"]),
        ({"interleave_probs": "0.5,0.5"}, "The length of dataset and interleave probs should be identical.",
         ["dataset", "interleave_probs"]),
        ({"save_steps": "100"}, "'>' not supported between instances of 'str' and 'int'", ["save_steps", "save_strategy"]),
    ],
)  # fmt: skip
def test_the_releases_own_checks_are_followed(source, given, message, keys):
    found = follow(source, **given).refusals
    assert [r.message for r in found] == ([message] if message else [])
    if message:
        assert found[0].keys == keys
        assert found[0].line > 0


def test_what_depends_on_the_machine_is_not_called_refused(source):
    assert follow(source).refusals == []  # get_train_args asks torch.cuda.is_available() and an unknown function


def test_launch_mode_decides(source):
    assert (
        follow(source, "not_parallel", deepspeed="x.json")
        .refusals[0]
        .message.startswith("Please use `FORCE_TORCHRUN=1`")
    )
    assert follow(source, "distributed", deepspeed="x.json").refusals == []


def test_packages_that_a_key_needs(source):
    found = follow(source, use_unsloth=True, predict_with_generate=True).requirements
    assert [(r.requirement, r.keys) for r in found] == [
        ("unsloth", ["use_unsloth"]),
        ("jieba>=0.4", ["predict_with_generate"]),
    ]


def test_arguments_that_the_parsing_function_keeps_do_not_hide_the_others(source):
    values = {"model_name_or_path": "m", "template": "t", "use_unsloth": True, "threads": 4}
    assert "RuntimeArguments" in source.groups["infer"]
    found = refusals.follow(source, values, "infer", {}, {}).requirements
    assert [r.requirement for r in found] == ["unsloth"]


@pytest.mark.parametrize(
    ("key", "value", "omega", "kind", "meant"),
    [
        ("learning_rate", 1.0e-5, False, None, None),
        ("learning_rate", 1, False, None, None),
        ("learning_rate", "1e-5", False, "exponent", 1e-5),
        ("learning_rate", "1e-5", True, None, None),
        ("learning_rate", "fast", False, "type", None),
        ("learning_rate", None, False, "type", None),
        ("lora_rank", "8", False, "type", 8),
        ("lora_rank", "16,384", False, "type", 16384),
        ("lora_rank", 8.0, False, "type", 8),
        ("lora_rank", 8.5, False, "type", None),
        ("max_steps", "1e3", False, "exponent", 1000),
        ("bf16", "true", False, "type", True),
        ("bf16", None, False, None, None),
        ("finetuning_type", "Full", False, "choice", "full"),
        ("eval_strategy", False, False, "type", "no"),
        ("eval_strategy", "step", False, "choice", "steps"),
        ("report_to", "wandbb", False, "choice", "wandb"),
        ("report_to", ["wandb", "tensorboard"], False, None, None),
        ("quantization_bit", None, False, None, None),
        ("deepspeed", {"a": 1}, False, None, None),
        ("label_names", "x", False, None, None),
    ],
)
def test_value_types(source, key, value, omega, kind, meant):
    field = fields(source)[key]
    if key == "label_names":
        assert value_types.check(field, value, omega) is None
        return
    misfit = value_types.check(field, value, omega)
    assert (misfit and misfit.kind, misfit and misfit.meant) == (kind, meant)


@pytest.mark.parametrize(
    ("key", "known", "renamed", "near"),
    [
        ("evaluation_strategy", {"eval_strategy"}, "eval_strategy", "eval_strategy"),
        ("eval_strategy", {"evaluation_strategy"}, "evaluation_strategy", "evaluation_strategy"),
        ("load_in_4bit", {"quantization_bit"}, None, "quantization_bit"),
        ("learning_rat", {"learning_rate", "lora_rank"}, None, "learning_rate"),
        ("loraRank", {"learning_rate", "lora_rank"}, None, "lora_rank"),
        ("zzz", {"learning_rate"}, None, None),
    ],
)
def test_names_over_releases(key, known, renamed, near):
    assert key_history.renamed_to(key, known) == renamed
    assert key_history.nearest(key, known) == near
