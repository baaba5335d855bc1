"""Faults of arguments that no parser refuses and that the Trainer, PEFT or the converter refuses when it starts."""

from __future__ import annotations

from typing import Any

from tests.faults.catalogue.data import rows
from tests.faults.catalogue.dataset_info import entry, in_parquet
from tests.faults.catalogue.deepspeed import ZERO2, ZERO3, environ
from tests.faults.catalogue.model import WHOLE, config, of_json
from tests.faults.catalogue.recipe import VALIDATED, line, values
from tests.faults.fault import Fault, Inject, together
from tests.faults.workspace import Workspace

HAND = {"healable": False}
LORA, CURRENT = "sky-t1 lora", "current full"
MIN_LR = "lr_scheduler_kwargs: {min_lr: 1e-6}"
BEST = {"load_best_model_at_end": True, "save_strategy": "steps", "save_steps": 1}


def conflict(id: str, what: str, base: str = "sky-t1 full", **changed: Any) -> Fault:
    return Fault(id, "cfg-conflicting-args", what, values(**changed), base, healable=False)


def generation(**given: Any) -> Inject:
    def inject(place: Workspace) -> None:
        (place.model / "generation_config.json").write_text("{}")
        of_json("generation_config.json", **given)(place)

    return inject


def tools(text: str) -> Inject:
    columns = {"messages": "conversations", "system": "system", "tools": "tools"}
    return together(rows(lambda number, row: row.update(tools=text)), entry(columns=columns))


def unusable(id: str, what: str, inject: Inject, base: str = "sky-t1 full") -> Fault:
    return Fault(id, "model-config-invalid-json", what, inject, base, WHOLE)


FAULTS = [
    Fault("rate-of-scheduler-text", "cfg-bad-value-type", "min_lr: 1e-6 in lr_scheduler_kwargs",
          together(values(lr_scheduler_type="cosine_with_min_lr"), line(MIN_LR)), **HAND),
    conflict("both-lowest-rates", "min_lr and min_lr_rate", lr_scheduler_type="cosine_with_min_lr",
             lr_scheduler_kwargs={"min_lr": 0.00001, "min_lr_rate": 0.1}),
    Fault("prefetch-nothing", "cfg-bad-value-type", "dataloader_prefetch_factor: 0",
          values(dataloader_num_workers=2, dataloader_prefetch_factor=0), healable=False),
    Fault("evaluates-nothing-at-start", "cfg-eval-without-val", "eval_on_start without data", values(eval_on_start=True),
          CURRENT, **HAND),
    conflict("model-only-and-best", "save_only_model with load_best_model_at_end", ZERO2, **VALIDATED, **BEST,
             save_only_model=True),
    conflict("batch-found-under-zero3", "auto_find_batch_size under ZeRO-3", ZERO3, auto_find_batch_size=True),
    Fault("evaluates-under-zero2", "ds-inference-stage", "do_eval without do_train under ZeRO-2",
          values(do_train=False, do_eval=True, eval_dataset="Sky-T1", max_steps=None), ZERO2),
    conflict("accumulation-twice", "num_steps in accelerator_config", gradient_accumulation_steps=2,
             accelerator_config={"gradient_accumulation_kwargs": {"num_steps": 4}}),
    conflict("checkpointing-misspelt", "reentrant for use_reentrant", gradient_checkpointing=True,
             gradient_checkpointing_kwargs={"reentrant": True}),
    conflict("past-index", "past_index: 2", past_index=2),
    Fault("ipex-not-installed", "pkg-missing", "use_ipex", values(use_ipex=True), **HAND),
    Fault("system-list", "cfg-bad-value-type", "default_system: [a]", values(default_system=["a"]), CURRENT, **HAND),
    Fault("output-yes", "cfg-bad-value-type", "output_dir: yes", line("output_dir: yes"), **HAND),
    Fault("lora-target-pattern", "peft-target-modules-missing", "lora_target: .*q_proj", values(lora_target=".*q_proj"),
          LORA, **HAND),
    Fault("lora-target-norm", "peft-target-modules-missing", "lora_target: q_proj,input_layernorm",
          values(lora_target="q_proj,input_layernorm"), LORA, **HAND),
    Fault("answers-empty", "data-empty-answers", "every second answer is empty",
          rows(lambda number, row: row["conversations"][-1].update(value="") if number % 2 else None), warns=True, **HAND),
    Fault("system-object", "data-schema-mixed-types", "a system prompt that is an object",
          rows(lambda number, row: row.update(system={"text": "be good"})), **HAND),
    Fault("tools-of-openai", "data-tools-invalid-json", "tools in the form of OpenAI with 0.9.1",
          tools('[{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]'),
          **HAND),
    Fault("tools-without-properties", "data-tools-invalid-json", "parameters without properties",
          tools('[{"name": "f", "description": "d", "parameters": {"type": "object"}}]'), **HAND),
    Fault("parquet-numbers-for-text", "data-schema-mixed-types", "a Parquet file with numbers for the text of turns",
          in_parquet("{**row, 'conversations': [{'from': t['from'], 'value': 7} for t in row['conversations']]}"), **HAND),
    unusable("cache-switch-quoted", 'use_cache: "true" with transformers 5', config(use_cache="true"), CURRENT),
    unusable("end-quoted", 'eos_token_id: "2" with transformers 5', config(eos_token_id="2"), CURRENT),
    unusable("tie-quoted", 'tie_word_embeddings: "false" with transformers 5', config(tie_word_embeddings="false"), CURRENT),
    unusable("architecture-bare", "architectures is text", config(architectures="Qwen2ForCausalLM"), CURRENT),
    unusable("labels-list", "id2label: [a]", config(id2label=["a"])),
    unusable("dtype-with-torch", "torch_dtype: torch.float32", config(torch_dtype="torch.float32")),
    unusable("padding-negative", "pad_token_id: -1", config(pad_token_id=-1)),
    unusable("rope-factor-quoted", 'factor: "4.0"', config(rope_scaling={"rope_type": "yarn", "factor": "4.0"})),
    unusable("rope-of-images", "rope_scaling of type mrope for a model of text",
             config(rope_scaling={"type": "mrope", "mrope_section": [4, 2, 2]})),
    unusable("generation-cache", "cache_implementation: foo", generation(cache_implementation="foo")),
    unusable("generation-sequences", "num_return_sequences: 3 without beams", generation(num_return_sequences=3), CURRENT),
    unusable("generation-length", "length_penalty without beams", generation(length_penalty=0.5)),
    Fault("sizes-of-mpi", "launch-rank-env-stale", "PMI_SIZE left in the shell",
          environ(FORCE_TORCHRUN="0", PMI_SIZE="4"), fresh=True, **HAND),
    Fault("master-empty", "launch-master-addr", "MASTER_ADDR is empty",
          environ(FORCE_TORCHRUN="1", MASTER_PORT="29577", MASTER_ADDR=""), fresh=True, **HAND),
    Fault("proxy-socks", "pkg-missing", "ALL_PROXY is SOCKS, and socksio is not installed",
          environ(ALL_PROXY="socks5://127.0.0.1:1080"), fresh=True, **HAND),
]  # fmt: skip
