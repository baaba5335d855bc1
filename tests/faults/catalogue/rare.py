"""Faults in what few write: sections of the DeepSpeed JSON, tokenizer classes, variables that torch reads, odd types."""

from __future__ import annotations

from typing import Any

from tests.faults.catalogue.dataset_info import entry
from tests.faults.catalogue.deepspeed import ZERO2, config, zero
from tests.faults.catalogue.deepspeed_sections import CURRENT, invalid, optimizer
from tests.faults.catalogue.model import WHOLE, of_json
from tests.faults.catalogue.recipe import values
from tests.faults.catalogue.variables import variable
from tests.faults.fault import Fault, together
from tests.faults.workspace import Workspace

CURRICULUM = {
    "enabled": True, "curriculum_type": "seqlen", "min_difficulty": 8, "max_difficulty": 64, "schedule_type": "fixed_linear",
    "schedule_config": {"total_curriculum_step": 10, "difficulty_step": 8},
}  # fmt: skip
ELASTIC = {"enabled": True, "ignore_non_elastic_batch_info": True, "max_train_batch_size": 16, "micro_batch_sizes": [1]}


def tokenizer(id: str, what: str, cause: str, base: str = "current full", **changed: Any) -> Fault:
    return Fault(id, cause, what, of_json("tokenizer_config.json", **changed), base, WHOLE)


def library_of_text(place: Workspace) -> None:
    folder = place.root / "lib"
    folder.mkdir()
    (folder / "libz.so.1").write_text("version https://git-lfs.github.com/spec/v1\n")
    place.environ["LD_LIBRARY_PATH"] = str(folder)


DEEPSPEED = [
    invalid("ds-curriculum-without-schedule", "curriculum_learning whose schedule_config is empty",
            curriculum_learning={**CURRICULUM, "schedule_config": {}}),
    invalid("ds-curriculum-schedule", 'curriculum_learning.schedule_type: "linear"', CURRENT,
            curriculum_learning={**CURRICULUM, "schedule_type": "linear"}),
    invalid("ds-layer-drop-bare", "progressive_layer_drop without theta", CURRENT,
            progressive_layer_drop={"enabled": True}),
    invalid("ds-layer-drop-unswitched", "progressive_layer_drop without enabled", progressive_layer_drop={"theta": 0.5}),
    invalid("ds-efficiency-metrics", "data_efficiency with curriculum learning and no curriculum_metrics",
            data_efficiency={"data_sampling": {"curriculum_learning": {"enabled": True}}}),
    invalid("ds-compression-groups", "compression_training.weight_quantization without different_groups",
            compression_training={"weight_quantization": {"shared_parameters": {}}}),
    invalid("ds-compression-method", 'sparse_pruning by method "l2"', compression_training={
            "sparse_pruning": {"shared_parameters": {"enabled": True, "method": "l2"}, "different_groups": {}}}),
    invalid("ds-sparse-mode", 'sparse_attention.mode: "foo"', CURRENT, sparse_attention={"mode": "foo"}),
    invalid("ds-pipeline-null", "pipeline: null", CURRENT, pipeline=None),
    invalid("ds-legacy-stage", "zero_optimization.legacy_stage1: true", inject=zero(legacy_stage1=True)),
    invalid("ds-bucket-huge", "reduce_bucket_size: 10 to the 30th", CURRENT, inject=zero(reduce_bucket_size=10**30)),
    invalid("ds-offload-null", "offload_optimizer: null", inject=zero(offload_optimizer=None)),
    invalid("ds-elastic-version", "elasticity.version: 3", elasticity={**ELASTIC, "version": 3}),
    invalid("ds-elastic-gpus", "elasticity for at least 4 GPUs", elasticity={**ELASTIC, "version": 0.1, "min_gpus": 4}),
    invalid("ds-optimizer-of-torch", "betas for RMSprop",
            optimizer={"type": "RMSprop", "params": {"lr": "auto", "betas": [0.9, 0.999]}}),
    invalid("ds-optimizer-norm", "optimizer.params.max_grad_norm", inject=optimizer(max_grad_norm=1.0)),
    invalid("ds-scheduler-bare", "a scheduler without params", scheduler={"type": "WarmupLR"}),
    invalid("ds-timers", 'timers.throughput.enabled: "x"', CURRENT, timers={"throughput": {"enabled": "x"}}),
    invalid("ds-tensor-parallel-key", "tensor_parallel.autotp_sizes", CURRENT, tensor_parallel={"autotp_sizes": 1}),
    invalid("ds-profiler-text", 'flops_profiler.enabled: "true"', flops_profiler={"enabled": "true"}),
    Fault("ds-decay-negative", "cfg-bad-value-type", "weight_decay: -0.1, filled into the JSON's optimizer",
          together(values(weight_decay=-0.1), optimizer(weight_decay="auto")), ZERO2, healable=False),
    Fault("ds-package-of-optimizer", "pkg-missing", "the optimizer MuAdam without mup",
          config(optimizer={"type": "MuAdam", "params": {"lr": "auto"}}), ZERO2, healable=False),
]  # fmt: skip
FAULTS = [
    *DEEPSPEED,
    tokenizer("tokenizer-class-of-bert", "BertTokenizer for a byte-level BPE", "tok-wrong-class",
              tokenizer_class="BertTokenizer"),
    tokenizer("tokenizer-class-of-t5", "T5Tokenizer for a byte-level BPE", "tok-wrong-class", tokenizer_class="T5Tokenizer"),
    tokenizer("padding-side-in-capitals", "padding_side: LEFT", "tok-load-failed", padding_side="LEFT"),
    tokenizer("inputs-as-text", "model_input_names: input_ids, no list", "tok-load-failed", "sky-t1 full",
              model_input_names="input_ids"),
    variable("allocator-without-colon", "PYTORCH_CUDA_ALLOC_CONF=expandable_segments=True", "current full"),
    variable("logs-unknown", "TORCH_LOGS=dynamoo"),
    variable("logs-empty", "TORCH_LOGS=", "current full"),
    Fault("library-of-text", "launch-variable-invalid", "a libz.so.1 that is text in LD_LIBRARY_PATH", library_of_text,
          fresh=True, healable=False),
    Fault("bf16-in-words", "gpu-bf16-unsupported", "bf16: auto on a machine without GPU", values(bf16="auto"),
          "current full"),
    Fault("tokens-added-yes", "cfg-bad-value-type", "add_tokens: true", values(add_tokens=True), "current full",
          healable=False),
    Fault("samples-of-entry-nan", "data-format-undeclared", "num_samples: NaN", entry(num_samples=float("nan")),
          "current full", healable=False),
]  # fmt: skip
