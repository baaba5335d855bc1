import pytest

from doctor.facts import Facts
from doctor.probes import arguments, llamafactory, recipe
from doctor.recipe import values_judged
from knowledge_base.schema import Severity
from tests.doctor.recipe import standin

MODULES = {"model.local": True, "model.weights": {"parts": [], "modules": ["q_proj", "v_proj", "embed_tokens"]}}
COUNTED = {"records.scans": {"a": {"read": 16, "complete": True}}}


def found(tmp_path, lines, more=None):
    made = standin.target(tmp_path, f"model_name_or_path: m\ndo_train: true\noutput_dir: out\n{lines}\n")
    around = {"launch.environ": {}, "launch.force_torchrun": False, "gpu.count": 0, **(more or {})}
    facts, _ = standin.examine(made, recipe, llamafactory, arguments, more=around)
    return standin.judged(values_judged.ALL, facts)


@pytest.mark.parametrize(
    ("lines", "causes"),
    [
        ("dataset: a,b\nmix_strategy: interleave_under\ninterleave_probs: 0.5,0.6", ["cfg-bad-value-type"]),
        ("dataset: a,b\nmix_strategy: interleave_under\ninterleave_probs: 0.3,0.7", []),
        ("dataset: a\nmix_strategy: interleave_under\ninterleave_probs: '0.6'", []),
        ("num_train_epochs: 0", ["cfg-does-not-train"]),
        ("num_train_epochs: 0\nmax_steps: 5", []),
        ("save_strategy: best", ["cfg-best-model-strategy"]),
        ("save_strategy: best\nmetric_for_best_model: loss", []),
        ("ddp_backend: gloo", ["launch-torchrun-missing"]),
        ("streaming: true\ngroup_by_length: true", ["cfg-streaming-args"]),
    ],
)
def test_values_that_the_parser_takes(tmp_path, lines, causes):
    assert [f.cause for f in found(tmp_path, lines)] == causes


def test_shares_are_scaled_to_one(tmp_path):
    (finding,) = found(tmp_path, "dataset: a,b\nmix_strategy: interleave_under\ninterleave_probs: 0.5,0.6")
    assert finding.details["probable_value"] == "0.4545,0.5455"


def test_a_batch_that_is_never_full(tmp_path):
    lines = "dataloader_drop_last: true\nper_device_train_batch_size: 32"
    assert [f.cause for f in found(tmp_path, lines, COUNTED)] == ["cfg-conflicting-args"]
    assert not found(tmp_path, lines.replace("32", "16"), COUNTED)


@pytest.mark.parametrize(
    ("lines", "severities"),
    [
        ("finetuning_type: freeze\nfreeze_extra_modules: lm_headd", [None]),
        ("finetuning_type: freeze\nfreeze_extra_modules: norm,lm_head", []),
        ("finetuning_type: [lora]\nadditional_target: embed", []),
        ("finetuning_type: lora\nadditional_target: embed", [Severity.WARNING]),
        ("finetuning_type: lora\nadditional_target: embed_tokens,lm_head", []),
        ("finetuning_type: lora\nlora_target: q_proj,W_pack", [Severity.WARNING]),
        ("finetuning_type: lora\nlora_target: W_pack", []),  # nothing left of it is said elsewhere
    ],
)
def test_modules_that_are_passed_over(tmp_path, lines, severities):
    assert [f.severity for f in found(tmp_path, lines, MODULES)] == severities


def test_nccl_needs_gpus(tmp_path):
    torchrun = {"launch.force_torchrun": True, "gpu.devices": []}
    assert [f.cause for f in found(tmp_path, "ddp_backend: nccl", torchrun)] == ["cuda-unavailable"]
    assert not found(tmp_path, "ddp_backend: gloo", torchrun)
    assert not found(tmp_path, "ddp_backend: nccl", {**torchrun, "gpu.count": 2})


def test_layers_that_do_not_divide(tmp_path):
    lines = "finetuning_type: lora\nuse_llama_pro: true\nfreeze_trainable_layers: 3"
    assert [f.cause for f in found(tmp_path, lines, {"model.config": {"num_hidden_layers": 28}})] == [
        "cfg-conflicting-args"
    ]
    assert not found(tmp_path, lines, {"model.config": {"num_hidden_layers": 27}})


def test_attention_that_only_llama_has(tmp_path):
    (finding,) = found(tmp_path, "shift_attn: true", {"model.config": {"model_type": "qwen2"}})
    assert (finding.cause, finding.severity) == ("attn-not-supported-by-model", Severity.WARNING)
    assert not found(tmp_path, "shift_attn: true", {"model.config": {"model_type": "llama"}})


def test_a_file_where_a_folder_is_made(tmp_path):
    (tmp_path / "notes").write_text("")
    given = {"cache_dir": "notes", "tokenized_path": "not-there"}
    assert values_judged.files_for_folders(given, tmp_path) == {"cache_dir": "notes"}


def test_names_of_tool_formats(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/tool_utils.py").write_text(
        'TOOLS = {\n    "default": DefaultToolUtils(),\n    "qwen": QwenToolUtils(),\n}\n'
    )
    assert values_judged.tool_formats(tmp_path) == ["default", "qwen"]
    assert values_judged.tool_formats(tmp_path / "older") == []


def test_attentions_that_are_made(tmp_path):
    (tmp_path / "model/model_utils").mkdir(parents=True)
    source = tmp_path / "model/model_utils/attention.py"
    source.write_text(
        "model_args.flash_attn = AttentionFunction.FA3\nif model_args.flash_attn == AttentionFunction.FA2:\n"
    )
    assert values_judged.attentions(tmp_path) == ["fa2"]
    source.write_text('if model_args.flash_attn == "sdpa":\n')
    assert values_judged.attentions(tmp_path) == ["sdpa"]
    assert values_judged.attentions(tmp_path / "older") == []


def test_a_length_that_is_left_a_fraction(tmp_path):
    (tmp_path / "model/model_utils").mkdir(parents=True)
    source = tmp_path / "model/model_utils/rope.py"
    source.write_text('setattr(config, "max_position_embeddings", old_max_length * rope_factor)\n')
    assert values_judged.length_as_fraction(tmp_path)
    source.write_text('setattr(config, "max_position_embeddings", int(old_max_length * rope_factor))\n')
    assert not values_judged.length_as_fraction(tmp_path)


def test_a_branch_that_reads_no_json(tmp_path):
    (tmp_path / "hparams").mkdir()
    source = tmp_path / "hparams/parser.py"
    source.write_text("dict_config = OmegaConf.create(json.load(Path(sys.argv[1]).absolute()))\n")
    assert values_judged.json_is_broken(tmp_path)
    source.write_text("dict_config = json.load(open(sys.argv[1]))\n")
    assert not values_judged.json_is_broken(tmp_path)


def test_a_loss_that_is_named_at_each_step(tmp_path):
    (tmp_path / "trainer").mkdir()
    source = tmp_path / "trainer/dpo_trainer.py"
    source.write_text(
        '    def dpo_loss(\n        self,\n        logps: Tensor,\n        loss_type: str = "sigmoid",\n    ):\n'
    )
    assert values_judged.loss_is_sigmoid(tmp_path)
    source.write_text("    def dpo_loss(self, logps: Tensor):\n        loss_type: str = 'sigmoid'\n")
    assert not values_judged.loss_is_sigmoid(tmp_path)
    assert not values_judged.loss_is_sigmoid(None)


QUANTISING = """
        if model_args.quantization_method == QuantizationMethod.BITS_AND_BYTES.value:
            pass
        elif model_args.quantization_method == QuantizationMethod.HQQ:
            pass
"""


def test_a_method_that_quantises_nothing_while_loading(tmp_path):
    folder = tmp_path / "model" / "model_utils"
    folder.mkdir(parents=True)
    names = 'class QuantizationMethod(str, Enum):\n    BITS_AND_BYTES = "bitsandbytes"\n    GPTQ = "gptq"\n    HQQ = "hqq"\n'
    (folder / "quantization.py").write_text(names + QUANTISING)
    assert values_judged.quantisers(tmp_path) == ["bitsandbytes", "hqq"]
    assert values_judged.quantisers(tmp_path / "absent") == []


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("quantization_bit: 4\nquantization_method: gptq", ["cfg-invalid-choice"]),
        ("quantization_bit: 4\nquantization_method: hqq", []),
        ("quantization_method: gptq", []),
    ],
)
def test_only_a_method_that_is_asked_for_is_told(tmp_path, lines, told):
    given = {"arguments.quantisers": ["bnb", "hqq"], "arguments.misfits": []}
    values = dict(line.split(": ") for line in lines.splitlines())
    facts = Facts({**given, "recipe.values": values, "recipe.path": "r.yaml", "recipe.lines": dict.fromkeys(values, 1)})
    assert [f.cause for f in values_judged.quantiser_known(facts)] == told


def test_checkpoints_that_are_turned_back_into_whole_weights(tmp_path):
    folder = tmp_path / "model" / "model_utils"
    folder.mkdir(parents=True)
    text = "        if quant_method == QuantizationMethod.FP8:\n            config = C(dequantize=True)\n\n"
    text += "        if quant_method == QuantizationMethod.AWQ:\n            check_version('autoawq')\n"
    (folder / "quantization.py").write_text(text)
    assert values_judged.dequantised(tmp_path) == ["fp8"]
