"""A stand-in target: packages with the same shape as LLaMA-Factory and transformers, written small, and a workspace."""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from doctor.facts import Facts, UnknownFact
from doctor.findings import Finding
from doctor.probes import Judgement, Probe
from doctor.recipe import expected_tensors
from doctor.target import Interpreter, Target

_FILES = {
    "llamafactory/__init__.py": "",
    "llamafactory/extras/env.py": 'VERSION = "9.9.9"\n',
    "llamafactory/extras/misc.py": "def check_dependencies():\n    require_version('transformers>=1', 'x')\n",
    "llamafactory/extras/constants.py": '''
FILEEXT2TYPE = {"json": "json", "jsonl": "json", "csv": "csv", "parquet": "parquet", "txt": "text", "arrow": "arrow"}
class Quant(str, Enum):
    BNB = "bnb"
register_model_group(
    models={"Toy-Chat": {Source.DEFAULT: "org/toy-chat"}, "Toy": {Source.DEFAULT: "org/toy"}}, template="toy",
)
''',
    "llamafactory/data/template.py": '''
register_template(name="toy", format_user=F(slots=["<|u|>{{content}}"]), stop_words=["<|end|>"], replace_eos=True)
register_template(name="qwen", format_user=F(slots=["{{content}}"]), stop_words=["<|im_end|>"], replace_eos=True)
register_template(name="toy_vl", format_user=F(slots=["{{content}}"]), mm_plugin=get_mm_plugin("toy"))
register_template(name="qwen2_vl", mm_plugin=get_mm_plugin(name="qwen2_vl", image_token="<|i|>", video_token="<|v|>"))
register_template(name="llava", mm_plugin=get_mm_plugin("llava", image_token="<image>"))
register_template(name="empty", format_user=F(slots=["{{content}}"]))
''',
    "transformers/optimization.py": '''
def get_linear_schedule_with_warmup(optimizer, num_warmup_steps, num_training_steps, last_epoch=-1): ...
def get_cosine_schedule_with_warmup(optimizer, num_warmup_steps, num_training_steps, num_cycles=0.5, last_epoch=-1): ...
def get_inverse_sqrt_schedule(optimizer, num_warmup_steps, timescale=None, last_epoch=-1): ...
def get_reduce_on_plateau_schedule(optimizer, **kwargs): ...
TYPE_TO_SCHEDULER_FUNCTION = {
    SchedulerType.LINEAR: get_linear_schedule_with_warmup,
    SchedulerType.COSINE: get_cosine_schedule_with_warmup,
    SchedulerType.INVERSE_SQRT: get_inverse_sqrt_schedule,
    SchedulerType.REDUCE_ON_PLATEAU: get_reduce_on_plateau_schedule,
}
def get_scheduler(name, optimizer, num_warmup_steps=None, num_training_steps=None, scheduler_specific_kwargs=None):
    if name == SchedulerType.REDUCE_ON_PLATEAU:
        return schedule_func(optimizer, **scheduler_specific_kwargs)
    if name == SchedulerType.INVERSE_SQRT:
        return schedule_func(optimizer, num_warmup_steps=num_warmup_steps)
    return schedule_func(
        optimizer, num_warmup_steps=num_warmup_steps, num_training_steps=num_training_steps, **scheduler_specific_kwargs
    )
''',
    "llamafactory/data/mm_plugin.py": 'raise ValueError("Processor was not found, please check your model.")\n',
    "llamafactory/data/parser.py": '''
@dataclass
class DatasetAttr:
    load_from: Literal["hf_hub", "file"]
    dataset_name: str
    formatting: Literal["alpaca", "sharegpt"] = "alpaca"
    ranking: bool = False
    subset: Optional[str] = None
    split: str = "train"
    folder: Optional[str] = None
    num_samples: Optional[int] = None
    system: Optional[str] = None
    tools: Optional[str] = None
    images: Optional[str] = None
    chosen: Optional[str] = None
    rejected: Optional[str] = None
    kto_tag: Optional[str] = None
    prompt: Optional[str] = "instruction"
    query: Optional[str] = "input"
    response: Optional[str] = "output"
    history: Optional[str] = None
    messages: Optional[str] = "conversations"
    role_tag: Optional[str] = "from"
    content_tag: Optional[str] = "value"
    user_tag: Optional[str] = "human"
    assistant_tag: Optional[str] = "gpt"
    observation_tag: Optional[str] = "observation"
    function_tag: Optional[str] = "function_call"
    system_tag: Optional[str] = "system"

def get_dataset_list(names, dataset_dir):
    has_hf_url = "hf_hub_url" in info[name]
    attr = DatasetAttr("file", dataset_name=info[name]["file_name"])
    column_names = ["system", "tools", "images", "chosen", "rejected", "kto_tag"]
    column_names.extend(["prompt", "query", "response", "history", "messages"])
    tag_names = ("role_tag", "content_tag", "user_tag", "assistant_tag", "observation_tag", "function_tag", "system_tag")
''',
    "llamafactory/data/aligner.py": '''
def convert_sharegpt(example):
    for turn in messages:
        aligned.append(tag_mapping[turn])
''',
    "llamafactory/hparams/parser.py": '''
from transformers import Seq2SeqTrainingArguments
from .model_args import ModelArguments, RuntimeArguments
from .data_args import DataArguments

_TRAIN_ARGS = [ModelArguments, DataArguments, Seq2SeqTrainingArguments]
_INFER_ARGS = [ModelArguments, DataArguments, RuntimeArguments]
_EVAL_ARGS = [ModelArguments, DataArguments]

def _check_extra_dependencies(model_args, training_args=None):
    if model_args.use_unsloth:
        require_version("unsloth", "install it")
    if training_args is not None and training_args.predict_with_generate:
        require_version("jieba>=0.4", "install it")

def get_train_args(args=None):
    model_args, data_args, training_args = _parse_train_args(args)
    if is_env_enabled("X"):
        raise ValueError("never")
    if data_args.template is None:
        raise ValueError("Please specify which `template` to use.")
    if training_args.deepspeed and training_args.parallel_mode != ParallelMode.DISTRIBUTED:
        raise ValueError("Please use `FORCE_TORCHRUN=1` to launch DeepSpeed training.")
    if training_args.do_eval and data_args.eval_dataset is None and data_args.val_size < 1e-6:
        raise ValueError("Please specify dataset for evaluation.")
    if model_args.quantization_bit is not None and model_args.finetuning_type != "lora":
        raise ValueError("Quantization is only compatible with the LoRA method.")
    if unknown_call(training_args) or torch.cuda.is_available():
        raise ValueError("depends on the machine")
    _check_extra_dependencies(model_args, training_args)

def get_infer_args(args=None):
    model_args, data_args = _parse_infer_args(args)
    _check_extra_dependencies(model_args)
''',
    "llamafactory/hparams/model_args.py": '''
@dataclass
class BaseArguments:
    model_name_or_path: Optional[str] = field(default=None)
    trust_remote_code: bool = field(default=False)
    derived: Optional[int] = field(default=None, init=False)
    KIND: ClassVar[str] = "x"
    def __post_init__(self):
        if self.model_name_or_path is None:
            raise ValueError("Please provide `model_name_or_path`.")

@dataclass
class ModelArguments(BaseArguments):
    finetuning_type: Literal["lora", "full"] = field(default="lora")
    quantization_bit: Optional[int] = field(default=None)
    quantization_method: Quant = field(default=Quant.BNB)
    lora_rank: int = field(default=8)
    lora_alpha: Optional[int] = field(default=None)
    use_unsloth: bool = field(default=False)
    def __post_init__(self):
        BaseArguments.__post_init__(self)

@dataclass
class RuntimeArguments:
    threads: int = field(default=1)
''',
    "llamafactory/hparams/data_args.py": '''
@dataclass
class DataArguments:
    template: Optional[str] = field(default=None)
    dataset: Optional[str] = field(default=None)
    dataset_dir: str = field(default="data")
    eval_dataset: Optional[str] = field(default=None)
    val_size: float = field(default=0.0)
    streaming: bool = field(default=False)
    interleave_probs: Optional[str] = field(default=None)
    def __post_init__(self):
        def split_arg(arg):
            return [item.strip() for item in arg.split(",")]
        self.dataset = split_arg(self.dataset)
        if self.eval_dataset is not None and self.val_size > 1e-6:
            raise ValueError("Cannot specify `val_size` if `eval_dataset` is not None.")
        if self.interleave_probs is not None:
            self.interleave_probs = list(map(float, split_arg(self.interleave_probs)))
            if len(self.dataset) != len(self.interleave_probs):
                raise ValueError("The length of dataset and interleave probs should be identical.")
''',
    "transformers/__init__.py": "",
    "transformers/trainer_utils.py": '''
class IntervalStrategy(ExplicitEnum):
    NO = "no"
    STEPS = "steps"
    EPOCH = "epoch"
class FSDPOption(ExplicitEnum):
    FULL_SHARD = "full_shard"
    OFFLOAD = "offload"
''',
    "transformers/trainer_pt_utils.py": '''
@dataclass
class AcceleratorConfig:
    split_batches: bool = field(default=False)
    even_batches: bool = field(default=True)
''',
    "transformers/training_args.py": '''
class OptimizerNames(ExplicitEnum):
    ADAMW_TORCH = "adamw_torch"

@dataclass
class TrainingArguments:
    output_dir: str = field(metadata={"help": "where"})
    do_train: bool = field(default=False)
    do_eval: bool = field(default=False)
    learning_rate: float = field(default=5e-5)
    eval_strategy: Union[IntervalStrategy, str] = field(default="no")
    save_strategy: Union[IntervalStrategy, str] = field(default="steps")
    save_steps: float = field(default=500)
    max_steps: int = field(default=-1)
    load_best_model_at_end: bool = field(default=False)
    bf16: bool = field(default=False)
    fp16: bool = field(default=False)
    deepspeed: Optional[Union[dict, str]] = field(default=None)
    report_to: Union[None, str, List[str]] = field(default=None)
    label_names: Optional[List[str]] = field(default=None)
    ddp_timeout: int = field(default=1800)
    fsdp: Optional[Union[List[FSDPOption], str]] = field(default=None)
    fsdp_config: Optional[Union[dict, str]] = field(default=None)
    accelerator_config: Optional[Union[dict, str]] = field(default=None)
    def __post_init__(self):
        if isinstance(self.eval_strategy, EvaluationStrategy):
            self.eval_strategy = self.eval_strategy.value
        self.eval_strategy = IntervalStrategy(self.eval_strategy)
        self.save_strategy = IntervalStrategy(self.save_strategy)
        if self.do_eval is False and self.eval_strategy != IntervalStrategy.NO:
            self.do_eval = True
        if self.save_strategy == IntervalStrategy.STEPS and self.save_steps > 1:
            self.save_steps = int(self.save_steps)
        if self.load_best_model_at_end and self.eval_strategy != self.save_strategy:
            raise ValueError(f"--load_best_model_at_end requires the save and eval strategy to match: {self.eval_strategy}")
        if self.fp16 and self.bf16:
            raise ValueError("At most one of fp16 and bf16 can be True, but not both")
        self.fsdp_plugin_args = self._process_fsdp_args()
    def _process_fsdp_args(self):
        if self.fsdp is None:
            self.fsdp = []
        elif isinstance(self.fsdp, str):
            self.fsdp = [FSDPOption(s) for s in self.fsdp.split()]
        if self.fsdp == [FSDPOption.OFFLOAD]:
            raise ValueError("`--fsdp offload` can't work on its own.")
        elif FSDPOption.FULL_SHARD in self.fsdp and FSDPOption.OFFLOAD in self.fsdp:
            self.offloads = True
''',
    "transformers/training_args_seq2seq.py": '''
from .training_args import TrainingArguments

@dataclass
class Seq2SeqTrainingArguments(TrainingArguments):
    predict_with_generate: bool = field(default=False)
''',
    "transformers/models/auto/configuration_auto.py": 'CONFIG_MAPPING_NAMES = OrderedDict([("qwen2", "Qwen2Config")])\n',
    "transformers/models/auto/tokenization_auto.py": 'TOKENIZERS = OrderedDict([("qwen2", ("Qwen2Tokenizer", None))])\n',
}  # fmt: skip


def site(folder: Path) -> Path:
    """Write the packages into `folder`/site-packages and return it."""
    packages = folder / "site-packages"
    for name, content in _FILES.items():
        path = packages / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return packages


def target(folder: Path, recipe: str = "model_name_or_path: org/toy\n", **environ: str) -> Target:
    """A target whose working directory is `folder`, with the recipe text in recipe.yaml and the stand-in packages."""
    packages = site(folder)
    path = folder / "recipe.yaml"
    path.write_text(recipe, encoding="utf-8")
    interpreter = Interpreter(
        "3.11.7", str(folder), str(folder), "python", (str(packages),), (), str(folder), "", False
    )
    return Target(folder / "python", interpreter, "given", folder, path, {"HOME": str(folder / "home"), **environ})


def judged(judgements: Iterable[Judgement], facts: Facts) -> list[Finding]:
    """What they find; one that lacks a fact is skipped."""
    findings: list[Finding] = []
    for judgement in judgements:
        with contextlib.suppress(UnknownFact):
            findings += judgement(facts)
    return findings


def examine(made: Target, *probes: Probe, more: dict[str, Any] | None = None) -> tuple[Facts, list[Finding]]:
    """Collect the probes in order over the facts in `more`, then run their judgements; what lacks a fact is skipped."""
    facts = Facts(more or {})
    findings: list[Finding] = []
    for probe in probes:
        with contextlib.suppress(UnknownFact):
            facts = facts.merged(probe.collect(made, facts))
    for probe in probes:
        findings += judged(probe.JUDGEMENTS, facts)
    json.dumps(facts.to_json())
    return facts, findings


def safetensors(path: Path, tensors: dict[str, list[int]], short_by: int = 0) -> None:
    """A safetensors file of zero F32 tensors with these shapes; `short_by` bytes are left out at its end."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in tensors.items():
        size = 4
        for length in shape:
            size *= length
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    raw = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + b"\0" * (at - short_by))


QWEN2 = {
    "model_type": "qwen2", "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 1, "vocab_size": 12, "tie_word_embeddings": False, "architectures": ["Qwen2ForCausalLM"],
}  # fmt: skip


def added_token(number: int, content: str) -> dict[str, Any]:
    """An entry of added_tokens with all the fields that the library tokenizers asks for."""
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": content, **flags, "special": True}


def model(folder: Path, config: dict[str, Any] | None = None, tokenizer_class: str = "Qwen2Tokenizer") -> Path:
    """A complete small model folder: configuration, one safetensors file, tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(QWEN2 if config is None else config))
    kind = (config or QWEN2).get("model_type")
    shapes = expected_tensors.wanted({**QWEN2, "model_type": kind if kind in expected_tensors.FAMILIES else "qwen2"})
    safetensors(folder / "model.safetensors", shapes)
    vocabulary = {"a": 0, "b": 1}
    added = [added_token(2, "<|im_end|>"), added_token(3, "<|end|>")]
    (folder / "tokenizer.json").write_text(
        json.dumps({"added_tokens": added, "model": {"type": "BPE", "vocab": vocabulary, "merges": []}})
    )
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": tokenizer_class, "eos_token": "<|im_end|>"})
    )
    return folder
