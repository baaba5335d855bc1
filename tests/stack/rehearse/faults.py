"""The faults that only running reveals, and the healthy recipes that must pass."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.stack.rehearse.fault import Fault, custom_code, model_json, recipe, row, together, write, zero
from tests.stack.reproductions.place import Place

OFFLOAD = {"stage": 2, "offload_optimizer": {"device": "cpu"}}
ZERO3 = {"stage": 3, "stage3_gather_16bit_weights_on_model_save": True}
ZERO3_OFFLOAD = {**ZERO3, "offload_optimizer": {"device": "cpu"}, "offload_param": {"device": "cpu"}}
LORA = {"finetuning_type": "lora", "lora_rank": 4}
EVALUATED: dict[str, Any] = {"val_size": 0.25, "eval_strategy": "steps", "eval_steps": 100}

CLASS = "class OddForCausalLM(Qwen2ForCausalLM):\n"
INIT = CLASS + "    def __init__(self, config):\n        super().__init__(config)\n"
FORWARD = CLASS + "    calls = 0\n\n    def forward(self, *args, **kwargs):\n        OddForCausalLM.calls += 1\n"
GOES_ON = "        return super().forward(*args, **kwargs)\n"
TOKENIZER = """\
import os
from transformers import PreTrainedTokenizerFast

class OddTokenizer(PreTrainedTokenizerFast):
    def encode(self, text, **kwargs):
        if "crash" in text:
            os.kill(os.getpid(), 9)
        return super().encode(text, **kwargs)
"""


def said(text: str) -> Any:
    """A record whose answer is `text`."""

    def change(record: dict[str, Any]) -> dict[str, Any]:
        turns = [dict(turn) for turn in record["conversations"]]
        turns[-1]["value"] = text
        return {**record, "conversations": turns}

    return change


def spoken_by(role: str, text: str | None = None) -> Any:
    """A record whose last turn is another role's."""

    def change(record: dict[str, Any]) -> dict[str, Any]:
        turns = [dict(turn) for turn in record["conversations"]]
        turns[-1] |= {"from": role} | ({"value": text} if text else {})
        return {**record, "conversations": turns}

    return change


def crashing_tokenizer(place: Place) -> None:
    (place.model / "tokenization_odd.py").write_text(TOKENIZER)
    auto = {"AutoTokenizer": [None, "tokenization_odd.OddTokenizer"]}
    model_json("tokenizer_config.json", tokenizer_class="OddTokenizer", auto_map=auto)(place)
    row(7, said("what a crash"))(place)
    place.set_recipe(preprocessing_num_workers=2)


@contextmanager
def small_disk(place: Place, options: str) -> Iterator[None]:
    """The output directory on a file system of its own."""
    out = place.root / "saves"
    out.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(out)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(out)], check=True)


def without_compiler(place: Place) -> None:
    """A PATH with everything but compilers, and no operator built before."""
    tools = place.root.parent / "tools"
    tools.mkdir()
    for name in ("sh", "bash", "uname", "which", "cat", "ls", "env", "rm", "mkdir", "ninja", "ldconfig", "df"):
        if found := shutil.which(name):
            (tools / name).symlink_to(found)
    place.environ |= {"PATH": f"{place.environment.root / 'bin'}{os.pathsep}{tools}"}
    place.environ |= {"TORCH_EXTENSIONS_DIR": str(place.root.parent / "extensions")}
    zero(zero_optimization=OFFLOAD)(place)


def new_extensions(place: Place) -> None:
    place.environ |= {"TORCH_EXTENSIONS_DIR": str(place.root.parent / "extensions")}
    zero(zero_optimization=OFFLOAD)(place)


def shadow(place: Place) -> None:
    write(place, "mine/datasets.py", "ROWS = []\n")
    place.environ |= {"PYTHONPATH": str(place.root / "mine")}


def full_vocabulary(place: Place) -> None:
    """As many tokens as the embedding has rows: one more token is beyond it."""
    tokenizer = json.loads((place.model / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    rows = json.loads((place.model / "config.json").read_text())["vocab_size"]
    vocabulary |= {f"<unused{number}>": number for number in range(len(vocabulary), rows)}
    (place.model / "tokenizer.json").write_text(json.dumps(tokenizer))
    place.set_recipe(template="llama3")


def few_records(place: Place) -> None:
    place.write_rows(place.rows()[:2])
    place.set_recipe(stage="pt", packing=True, cutoff_len=1024)


DS = {"FORCE_TORCHRUN": "1", "LOCAL_SIZE": "1"}
DS2 = {"FORCE_TORCHRUN": "1", "LOCAL_SIZE": "2"}

TAGS = {"role_tag": "from", "content_tag": "value", "user_tag": "user", "assistant_tag": "assistant"}

FAULTS = (
    # DeepSpeed
    Fault("no-sync", "deepspeed 0.16.2, two processes, accumulation: no_sync refused", zero(), ("ds-no-sync-zero",),
          stack="no-sync", processes=2, environ=DS2, fresh=True),
    Fault("ops-no-setuptools", "CPUAdam cannot be built: the environment has no setuptools", new_extensions,
          ("ds-cpu-adam-build", "ds-op-build-failed", "pkg-missing", "pkg-setuptools-too-new"),
          stack="no-setuptools", environ=DS, fresh=True),
    Fault("ops-no-compiler", "CPUAdam cannot be built: no compiler on PATH", without_compiler,
          ("env-compiler-missing", "ds-cpu-adam-build", "ds-op-build-failed"), environ=DS, fresh=True),
    Fault("ds-auto-mismatch", "the JSON fixes a micro-batch of 4, the recipe says 1",
          zero(train_micro_batch_size_per_gpu=4), ("ds-config-hf-mismatch", "ds-batch-size-mismatch"), environ=DS),
    Fault("ds-invalid-stage", "zero_optimization.stage is a word", zero(zero_optimization={"stage": "three"}),
          ("ds-config-invalid",), environ=DS),
    Fault("ds-offload-optimizer", "optimizer offload with Adafactor",
          together(zero(zero_optimization=OFFLOAD), recipe(optim="adafactor")),
          ("ds-offload-client-optimizer",), environ=DS),
    Fault("zero3-not-gathered", "ZeRO-3 without gathering: the run ends well and saves no weights",
          zero(zero_optimization={**ZERO3, "stage3_gather_16bit_weights_on_model_save": False}),
          ("ckpt-zero-not-consolidated",), environ=DS),
    Fault("zero3-generate", "evaluation by generation under ZeRO-3",
          together(zero(zero_optimization=ZERO3), recipe(eval_dataset="Sky-T1", do_eval=True, predict_with_generate=True)),
          ("eval-generate-zero3", "pkg-missing"), environ=DS),
    # saving, resuming, evaluating
    Fault("save-shared-tensors", "two names for one tensor, which the model's code does not declare",
          custom_code(INIT + "        self.shadow = self.lm_head\n"),
          ("ckpt-save-shared-tensors", "model-tied-embeddings-save")),
    Fault("save-disk-full", "the disk of the output directory is full at the first checkpoint", lambda place: None,
          ("disk-full",), around=lambda place: small_disk(place, "size=200k")),
    Fault("save-read-only", "the output directory is on a read-only file system", lambda place: None,
          ("disk-readonly",), around=lambda place: small_disk(place, "ro")),
    Fault("save-not-a-folder", "the output directory lies under a file", recipe(output_dir="data/sky-t1.json/out")),
    Fault("resume-torch-2.6", "torch 2.6 refuses the random state that transformers 4.46 saved", lambda place: None,
          ("ckpt-torch-load-weights-only", "ckpt-rng-pickle"), stack="torch-2.6", fresh=True),
    Fault("best-metric-missing", "metric_for_best_model is none of the evaluation's metrics",
          recipe(**EVALUATED, load_best_model_at_end=True, metric_for_best_model="eval_accuracy", save_steps=100),
          ("cfg-best-model-strategy",)),
    Fault("eval-forward", "the model's code fails outside of training",
          together(custom_code(FORWARD + "        if not self.training:\n            raise KeyError('cache')\n" + GOES_ON),
                   recipe(**EVALUATED))),
    Fault("eval-packages", "evaluation by generation needs packages that training does not",
          recipe(eval_dataset="Sky-T1", do_eval=True, predict_with_generate=True), ("pkg-missing",)),
    # the model's own code
    Fault("code-needs-package", "the model's code imports a package that is not installed",
          custom_code("import einops_of_the_model\n\n" + INIT), ("model-remote-code-package", "pkg-missing")),
    Fault("code-outdated", "the model's code imports what this transformers no longer has",
          custom_code("from transformers.pytorch_utils import gone_since_4\n\n" + INIT),
          ("model-remote-code-outdated", "pkg-import-cannot-name")),
    Fault("code-dtype", "the model's code mixes 32-bit numbers into bf16",
          together(custom_code(FORWARD + "        x = torch.zeros(3, dtype=torch.bfloat16)\n"
                               "        x.index_add_(0, torch.tensor([0]), torch.ones(1))\n" + GOES_ON), recipe(bf16=True))),
    Fault("ddp-unused", "two processes, and parameters of the model that nothing uses",
          custom_code(INIT + "        self.unused = nn.Linear(4, 4)\n"), ("launch-ddp-unused-params",), processes=2),
    Fault("killed", "the host kills a rank in its fifth forward pass",
          custom_code(FORWARD + "        if self.calls > 4:\n            os.kill(os.getpid(), 9)\n" + GOES_ON),
          ("launch-sigkill-oom", "mem-host-oom"), processes=2),
    Fault("one-rank-waits", "one of two ranks never comes to the collective",
          custom_code(FORWARD + "        if self.calls > 2 and os.environ.get('RANK') == '1':\n"
                      "            time.sleep(100000)\n" + GOES_ON), ("train-hang",), processes=2, fresh=True),
    # tokenizer and template
    Fault("template-new-tokens", "the template's end token is new to the tokenizer, its id beyond the embedding",
          full_vocabulary, ("tok-ids-out-of-range", "tok-vocab-mismatch", "tmpl-wrong-for-model")),
    Fault("tokenizer-newer", "tokenizer.json was written by a newer release",
          model_json("tokenizer.json", model={"type": "BPE3", "vocab": {}, "merges": []}),
          ("tok-tokenizers-too-old", "tok-load-failed", "tok-saved-by-newer-transformers")),
    Fault("tokenizer-crash", "a worker dies on one record", crashing_tokenizer, ("data-workers-crash",)),
    # data
    Fault("role-late", "one late record speaks in a role that the tags do not name", row(14, spoken_by("critic")),
          ("data-role-tag-mismatch",)),
    Fault("tool-call-not-json", "a function call that is no JSON",
          together(lambda place: place.write_info(tags={**TAGS, "function_tag": "call"}), row(9, spoken_by("call", "f(1)"))),
          ("data-tools-invalid-json",)),
    Fault("mixed-types", "the answer of one record is an object", row(11, said({"text": "4"})),  # type: ignore[arg-type]
          ("data-schema-mixed-types",)),
    Fault("null-answer", "the answer of one record is null", row(12, said(None)),  # type: ignore[arg-type]
          ("data-null-content", "data-schema-mixed-types")),
    Fault("too-short-to-pack", "pre-training with packing on less text than one pack", few_records,
          ("data-too-short-to-pack", "data-empty-after-filter")),
    Fault("val-size", "a validation set larger than the data", recipe(val_size=500, eval_strategy="steps", eval_steps=10),
          ("data-val-split-too-large",)),
    Fault("dpo-without-pairs", "DPO on data without rejected answers", recipe(stage="dpo", pref_beta=0.1),
          ("data-stage-mismatch",)),
    # recipe
    Fault("scheduler-arguments", "cosine_with_min_lr without its minimum", recipe(lr_scheduler_type="cosine_with_min_lr")),
    Fault("learning-rate", "a learning rate of 1e5, for 1e-5", recipe(learning_rate=100000.0),
          ("train-loss-zero-or-nan", "train-loss-spike")),
    Fault("lora-target", "LoRA on modules that this model does not have", recipe(**LORA, lora_target="query_key_value"),
          ("peft-target-modules-missing",)),
    Fault("freeze-module", "freeze-tuning of a module that this model does not have",
          recipe(finetuning_type="freeze", freeze_trainable_modules="attention"),
          ("peft-target-modules-missing",)),
    Fault("optimizer-package", "an optimizer whose package is not installed", recipe(use_badam=True), ("pkg-missing",)),
    # the machine
    Fault("shadowed-package", "PYTHONPATH has a datasets.py", shadow,
          ("pkg-shadowed-module", "pkg-import-cannot-name"), fresh=True),
)  # fmt: skip

SIX = {"cutoff_len": 256, "gradient_accumulation_steps": 6}

HEALTHY = (
    Fault("full", "full, one process", recipe()),
    Fault("full-evaluated", "full, with evaluation and the best model kept",
          recipe(**EVALUATED, load_best_model_at_end=True, save_steps=100, save_total_limit=1)),
    Fault("full-ddp", "full, two processes", recipe(**SIX), processes=2),
    Fault("lora", "LoRA with evaluation", recipe(**LORA, **EVALUATED)),
    Fault("lora-ddp", "LoRA, two processes", recipe(**LORA), processes=2),
    Fault("freeze", "freeze-tuning", recipe(finetuning_type="freeze", freeze_trainable_layers=2)),
    Fault("packed", "neat packing", recipe(neat_packing=True, packing=True)),
    Fault("zero2", "ZeRO-2, two processes", together(zero(), recipe(**SIX)), processes=2, environ=DS2),
    Fault("zero3", "ZeRO-3, two processes, with evaluation",
          together(zero(zero_optimization=ZERO3), recipe(**SIX, **EVALUATED)), processes=2, environ=DS2),
    Fault("zero3-offload", "ZeRO-3 with offload, two processes, as published",
          together(zero(zero_optimization=ZERO3_OFFLOAD), recipe(**SIX)), processes=2, environ=DS2),
    Fault("zero3-lora", "LoRA under ZeRO-3", together(zero(zero_optimization=ZERO3), recipe(**LORA)),
          processes=2, environ=DS2),
    Fault("current-full", "full", recipe(**EVALUATED), stack="current"),
    Fault("current-ddp", "full, two processes", recipe(bf16=True), stack="current", processes=2),
    Fault("current-lora", "LoRA, two processes", recipe(**LORA), stack="current", processes=2),
    Fault("current-zero2", "ZeRO-2, two processes", zero(), stack="current", processes=2, environ=DS2),
    Fault("current-zero3", "ZeRO-3, two processes", zero(zero_optimization=ZERO3), stack="current", processes=2,
          environ=DS2),
)  # fmt: skip

STACKS = {
    "sky-t1": "llamafactory 0.9.1, torch 2.5.1, transformers 4.46.1, deepspeed 0.15.4",
    "no-sync": "the same with deepspeed 0.16.2",
    "no-setuptools": "the same without setuptools",
    "torch-2.6": "the same with torch 2.6.0",
    "current": "llamafactory 0.9.5, torch 2.11.0, transformers 5.6.0, deepspeed 0.18.4",
}
