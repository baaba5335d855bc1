import msgspec
import pytest

from doctor.probes import arguments, llamafactory, recipe
from doctor.recipe import refusals_judged
from doctor.recipe.arguments_judged import trains
from tests.doctor.recipe import standin

GOOD = "model_name_or_path: org/toy\ndo_train: true\ntemplate: toy\ndataset: d\noutput_dir: out\n"
MORE = {
    "packages.versions": {},
    "launch.force_torchrun": True,
    "launch.environ": {},
    "launch.world_size": 1,
    "gpu.count": 0,
}


def examine(tmp_path, text, more=None, **environ):
    made = standin.target(tmp_path, text, **environ)
    return standin.examine(made, recipe, llamafactory, arguments, more=MORE | (more or {}))


def test_a_good_recipe_gives_nothing(tmp_path):
    facts, found = examine(tmp_path, GOOD)
    assert found == []
    assert facts["arguments.subcommand"] == "train"


@pytest.mark.parametrize(
    ("line", "cause", "where", "details"),
    [
        ("evaluation_strategy: 'no'", "cfg-unknown-key", "recipe.yaml:6", {"renamed_to": "eval_strategy"}),
        ("lora_rnk: 8", "cfg-unknown-key", "recipe.yaml:6", {"nearest": "lora_rank"}),
        ("use_apollo: true", "cfg-unknown-key", "recipe.yaml:6", {"needs_newer": "0.9.2"}),
        ("learning_rate: 1e-5", "cfg-lr-string", "recipe.yaml:6", {"value_as_type": 1e-5}),
        ("max_steps: 1e3", "cfg-bad-value-type", "recipe.yaml:6", {"value_as_type": 1000}),
        ("eval_strategy: no", "cfg-bad-value-type", "recipe.yaml:6", {"value_as_type": "no"}),
        ("learning_rate: 10%", "cfg-bad-value-type", "recipe.yaml:6", {"value_as_type": 0.1}),
        ("max_steps: three", "cfg-bad-value-type", "recipe.yaml:6", {"value_as_type": 3}),
        ("max_steps: 16k", "cfg-bad-value-type", "recipe.yaml:6", {"probable_value": 16000}),
        ("finetuning_type: ful", "cfg-invalid-choice", "recipe.yaml:6", {"nearest": "full"}),
        ("eval_strategy: steps", "cfg-eval-without-val", "llamafactory/hparams/parser.py:25", {}),
        (
            "load_best_model_at_end: true",
            "cfg-best-model-strategy",
            "transformers/training_args.py:",
            {"save_strategy": "steps"},
        ),
        ("use_unsloth: true", "attn-unsloth", "recipe.yaml:6", {"distribution": "unsloth"}),
        ("predict_with_generate: true", "pkg-missing", "recipe.yaml:6", {"distribution": "jieba>=0.4"}),
        ("output_dir: twice", "cfg-duplicate-key", "recipe.yaml:6", {"key": "output_dir"}),
    ],
)
def test_one_fault(tmp_path, line, cause, where, details):
    found = examine(tmp_path, GOOD + line + "\n")[1]
    assert [f.cause for f in found] == [cause]
    assert found[0].evidence[0].where.startswith(where)
    assert details.items() <= found[0].details.items()


@pytest.mark.parametrize(
    ("lines", "cause", "details"),
    [
        ("fp16: true\nbf16: true\n", "cfg-bf16-fp16-conflict", {}),
        ("val_size: 0.1\neval_dataset: e\n", "cfg-conflicting-args", {"key": "val_size"}),
        ("quantization_bit: 4\nfinetuning_type: full\n", "quant-no-adapter", {"quantiser_missing": True}),
    ],
)
def test_combinations(tmp_path, lines, cause, details):
    found = examine(tmp_path, GOOD + lines)[1]
    assert [f.cause for f in found] == [cause]
    assert details.items() <= found[0].details.items()


def test_what_is_missing(tmp_path):
    found = examine(tmp_path, "do_train: true\n")[1]
    assert {(f.cause, f.details.get("key")) for f in found} >= {
        ("cfg-missing-argument", "output_dir"),
        ("tmpl-missing", None),
    }
    assert any(f.details.get("model_missing") for f in found)


def test_deepspeed_without_torchrun(tmp_path):
    lines = GOOD + "deepspeed: ds.json\n"
    assert examine(tmp_path, lines)[1] == []
    found = examine(tmp_path, lines, {"launch.force_torchrun": False, "launch.environ": {"FORCE_TORCHRUN": "0"}})[1]
    assert [f.cause for f in found] == ["launch-torchrun-missing"]


@pytest.mark.parametrize(
    ("files", "lines", "expected"),
    [
        (["trainer_log.jsonl"], "", []),
        (["model.safetensors"], "", [("cfg-output-dir-not-empty", None)]),
        (["checkpoint-5", "model.safetensors"], "", [("cfg-output-dir-not-empty", "info")]),
    ],
)
def test_the_output_directory(tmp_path, files, lines, expected):
    (tmp_path / "out").mkdir()
    for name in files:
        (tmp_path / "out" / name).write_bytes(b"")
    found = examine(tmp_path, GOOD + lines)[1]
    assert [(f.cause, f.severity and f.severity.value) for f in found] == expected
    assert all(f.details["output_dir_suggestion"] == "out-2" for f in found)


def test_recipes_of_other_subcommands_are_judged_by_theirs(tmp_path):
    facts, found = examine(tmp_path, "model_name_or_path: org/toy\ntemplate: toy\nsave_steps: 5\n")
    assert facts["arguments.subcommand"] == "chat"
    assert [f.cause for f in found] == ["cfg-wrong-subcommand"]


@pytest.mark.parametrize(("environ", "text"), [({"USE_MCA": "1"}, GOOD), ({}, "compute_environment: X\n")])
def test_what_other_programs_read_is_not_judged(tmp_path, environ, text):
    made = standin.target(tmp_path, text, **environ)
    facts = standin.Facts(MORE)
    for probe in (recipe, llamafactory, arguments):
        facts = facts.merged(probe.collect(made, facts))
    assert facts.why_unknown("arguments.fields").startswith("not judged")


def test_extra_arguments_allowed(tmp_path):
    assert examine(tmp_path, GOOD + "unheard_of: 1\n", ALLOW_EXTRA_ARGS="1")[1] == []


@pytest.mark.parametrize(
    ("lines", "meant"),
    [("gradient_accumulation_steps: 0", 1), ("lora_rank: -1", 8), ("per_device_train_batch_size: 0", 1)],
)
def test_counts_of_which_none_is_left(tmp_path, lines, meant):
    found = examine(tmp_path, GOOD + lines + "\n")[1]
    assert [f.details["probable_value"] for f in found if f.cause == "cfg-bad-value-type"] == [meant]


@pytest.mark.parametrize(
    ("lines", "package"),
    [("quantization_bit: 4", "bitsandbytes"), ("optim: paged_adamw_32bit", "bitsandbytes"),
     ("quantization_bit: 4\nquantization_method: hqq", "hqq")],
)  # fmt: skip
def test_packages_that_quantise(tmp_path, lines, package):
    def named(more):
        found = examine(tmp_path, GOOD + lines + "\n", more)[1]
        return [f.details["package"] for f in found if f.cause == "quant-backend-missing"]

    assert named({}) == [package]
    assert named({"packages.versions": {package: "1.0"}}) == []


def resumed(tmp_path, given, **files):
    """Findings of a recipe that resumes; `files` of out/checkpoint-2."""
    text = GOOD + f"resume_from_checkpoint: {given}\n"
    folder = standin.target(tmp_path, text).workdir / "out/checkpoint-2"
    folder.mkdir(parents=True)
    for name in files.get("files", ()):
        (folder / name).write_text("{}")
    if "model.safetensors" in files.get("files", ()):
        standin.safetensors(folder / "model.safetensors", {"model.norm.weight": [8]})
        (folder / "adapter_config.json").write_text("{}")
    found = examine(tmp_path, text)[1]
    return [f for f in found if f.cause == "ckpt-missing-optimizer-state"]


WHOLE = ("model.safetensors", "trainer_state.json")


def test_a_whole_checkpoint_is_resumed(tmp_path):
    assert resumed(tmp_path, "out/checkpoint-2", files=WHOLE) == []


def test_the_output_folder_is_none_and_its_checkpoint_is_named(tmp_path):
    (found,) = resumed(tmp_path, "out", files=WHOLE)
    assert found.details["complete_checkpoint"] == "out/checkpoint-2"


def test_true_takes_the_newest_of_the_output_folder(tmp_path):
    assert resumed(tmp_path, "true", files=WHOLE) == []


def test_a_folder_that_is_not_there_is_said(tmp_path):
    (found,) = resumed(tmp_path, "out/checkpoint-9")
    assert "does not exist" in found.evidence[0].what
    assert found.details["nothing_to_resume"]


@pytest.mark.parametrize(("launches", "severity"), [(False, "info"), (True, "error")])
@pytest.mark.parametrize(
    ("text", "subcommand"),
    [("model_name_or_path: m\nexport_dir: x\n", "export"), ("model_name_or_path: m\ntemplate: toy\n", "chat")],
)
def test_a_recipe_of_another_subcommand_is_refused_where_it_would_be_trained(
    tmp_path, text, subcommand, launches, severity
):
    made = msgspec.structs.replace(standin.target(tmp_path, text), launches=launches)
    facts, _ = standin.examine(made, recipe, llamafactory, arguments, more=MORE)
    (found,) = trains(facts)
    assert (found.cause, found.severity.value, found.details["subcommand"]) == (
        "cfg-does-not-train", severity, subcommand
    )  # fmt: skip


def test_a_training_recipe_that_would_do_nothing(tmp_path):
    text = GOOD.replace("do_train: true\n", "")
    found = examine(tmp_path, text)[1]
    assert [(f.cause, f.severity) for f in found] == [("cfg-does-not-train", None)]
    assert found[0].details["only_do_train_missing"]
    assert examine(tmp_path, text + "do_eval: true\nval_size: 0.1\n")[1] == []


@pytest.mark.parametrize(
    ("lines", "causes"),
    [
        ("freeze_trainable_layers: 0", ["cfg-bad-value-type"]),
        ("freeze_trainable_modules: query", ["peft-target-modules-missing"]),
        ("freeze_trainable_modules: mlp,all", []),
    ],
)
def test_something_must_be_thawed(tmp_path, lines, causes):
    layers = {"model.weights": {"parts": ["mlp", "self_attn"]}}
    found = examine(tmp_path, GOOD + f"finetuning_type: freeze\n{lines}\n", layers)[1]
    assert [f.cause for f in found if f.cause in ("cfg-bad-value-type", "peft-target-modules-missing")] == causes


@pytest.mark.parametrize(
    ("lines", "causes"),
    [
        ("lr_scheduler_type: cosine_with_min_lr\n", ["cfg-missing-argument"]),
        ("lr_scheduler_type: cosine_with_min_lr\nlr_scheduler_kwargs: {min_lr_rate: 0.1}\n", []),
        ("lr_scheduler_type: cosine_with_min_lr\nlr_scheduler_kwargs: '{\"min_lr\": 1.0e-6}'\n", []),
    ],
)
def test_schedulers_that_need_arguments(tmp_path, lines, causes):
    found = examine(tmp_path, GOOD + lines)[1]
    assert [f.cause for f in found if f.cause == "cfg-missing-argument"] == causes


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        ("output_dir: out", 'output_dir: ""', "cfg-missing-argument"),
        ("dataset: d", "dataset: []", "cfg-missing-argument"),
        ("template: toy", 'template: ""', "tmpl-missing"),
        ("output_dir: out", "output_dir: out\nlearning_rate: -0.1", "cfg-bad-value-type"),
        ("output_dir: out", "output_dir: out\nlr_scheduler_kwargs: {min_lr: 1.0e-6}", "cfg-conflicting-args"),
        ("output_dir: out", "output_dir: out\nlr_scheduler_type: cosine\nlr_scheduler_kwargs: {num_cycles: 1}", None),
        ("output_dir: out", "output_dir: out\nlearning_rate: 0.1", None),
    ],
)
def test_values_of_the_right_type_that_no_run_can_use(tmp_path, old, new, cause):
    causes = [f.cause for f in examine(tmp_path, GOOD.replace(old, new))[1] if f.cause != "cfg-unknown-key"]
    assert causes == ([cause] if cause else [])


@pytest.mark.parametrize(("value", "severity"), [("'true'", "warning"), ("ture", "warning"), ("'false'", None)])
def test_text_where_true_or_false_is_needed_counts_as_true(tmp_path, value, severity):
    _, (found,) = examine(tmp_path, GOOD.replace("do_train: true", f"do_train: {value}"))
    assert (found.cause, found.severity and found.severity.value) == ("cfg-bad-value-type", severity)


def test_a_needed_argument_without_a_value_is_missing(tmp_path):
    _, found = examine(tmp_path, GOOD.replace("output_dir: out", "output_dir:"))
    assert [f.cause for f in found] == ["cfg-missing-argument"]


def test_a_checkpoint_of_another_run_has_causes_of_its_own(tmp_path):
    text = GOOD + "resume_from_checkpoint: out/checkpoint-2\n"
    folder = standin.target(tmp_path, text).workdir / "out/checkpoint-2"
    folder.mkdir(parents=True)
    (folder / "trainer_state.json").write_text("{}")
    standin.safetensors(folder / "model.safetensors", {"model.norm.weight": [8]})
    found = [f.cause for f in examine(tmp_path, text)[1] if f.cause.startswith("ckpt-")]
    assert found == ["ckpt-resume-mismatch"]  # a whole model, where the recipe trains an adapter


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (["use_dora", "finetuning_type"], {"key": "use_dora", "other_key": "finetuning_type"}),
        (["mask_history", "train_on_prompt"], {"key": "train_on_prompt", "other_key": "mask_history"}),
        (["packing"], {"key": "packing"}),
        (["stage", "finetuning_type"], {}),
    ],
)
def test_what_a_run_is_is_not_the_setting_to_take_away(keys, told):
    assert refusals_judged.one_of(keys) == told
