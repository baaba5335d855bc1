"""`diagnose` on the logs of the real runs: the cause that was planted comes first, or what alone can be read there."""

from __future__ import annotations

import pytest

from doctor.diagnose import diagnose
from knowledge_base import load
from tests.faults import record
from tests.faults.catalogue import FAULTS
from tests.faults.workspace import BASES

# Where the message of the run is that of a neighbouring cause: LLaMA-Factory, transformers or DeepSpeed stop before
# they come to what was planted, or say the same of two causes. `check` sees the files and tells them apart.
SHOWS = {
    "adapter-empty": "peft-adapter-mismatch",
    "adapter-with-full": "cfg-conflicting-args",
    "answers-first": "data-empty-after-filter",
    "answers-first-current": "data-empty-after-filter",
    "assistant-tag-wrong": "data-empty-after-filter",
    "config-pointer": "model-config-invalid-json",
    "data-csv": "data-column-missing",
    "ds-batch-arithmetic": "ds-config-hf-mismatch",
    "formatting-missing": "data-empty-after-filter",
    "freeze-too-many": "train-no-grad-inputs",
    "galore-not-installed": "gpu-bf16-unsupported",
    "index-broken": "model-config-invalid-json",
    "info-list": "data-entry-missing",
    "key-format": "data-empty-after-filter",
    "learning-rate-with-comma": "cfg-lr-string",
    "model-relative": "hub-unreachable",
    "model-type-unknown": "pkg-transformers-too-old-for-model",
    "question-without-answer": "data-empty-after-filter",
    "role-in-capitals": "data-empty-after-filter",
    "scores-not-installed": "cfg-eval-without-val",
    "sft-data-in-kto": "data-empty-after-filter",
    "swanlab-not-installed": "pkg-missing",
    "tokenizer-missing": "tok-load-failed",
    "tokenizer-pointer": "tok-load-failed",
    "unsloth-not-installed": "pkg-missing",
    "weights-consolidated": "model-shards-missing",
    "weights-gguf": "model-shards-missing",
    "lora-target-norm": "peft-target-module-unsupported",
    "model-only-and-best": "cfg-best-model-strategy",
    "proxy-socks": "hub-proxy",
    "resumed-optimizer-cut": "ckpt-file-truncated",
    "resumed-other-rank": "peft-adapter-mismatch",
    "resumed-weights-cut": "model-corrupt-safetensors",
    "rate-of-scheduler-text": "cfg-lr-string",
    "resumed-adapter-in-full": "model-shards-missing",
    "samples-zero": "data-streaming-workers",
    "samples-of-entry-zero": "data-streaming-workers",
    "padding-negative": "model-generation-config-invalid",
    "generation-length": "model-generation-config-invalid",
    "port-too-high": "launch-variable-invalid",
    "wandb-not-logged-in": "pkg-import-cannot-name",  # the wandb that was installed wants another protobuf
    "compiler-nowhere": "ds-op-build-failed",
    "ds-optimizer-without-type": "ds-zero3-no-optimizer",
    "padding-side-in-capitals": "model-processor-missing",
    "tokenizer-class-of-t5": "tok-load-failed",
    "video-cut": "data-media-missing",
    "image-token-unknown": "data-cutoff-truncates",
    "adapter-layers-absent": "peft-target-modules-missing",
    "proxy-scheme-misspelt": "hub-proxy",
    "tokenizer-of-another-version": "tok-tokenizers-too-old",  # what a version that is not known means, most often
    "tokens-without-labels": "data-column-missing",
    "resumed-weights-pointer": "model-lfs-pointer",
    "weights-html": "model-lfs-pointer",  # a page and a pointer begin with text alike
    "deepspeed-left-by-accelerate": "launch-torchrun-missing",  # DeepSpeed is asked for where no launcher was
    "deepspeed-left-by-accelerate-current": "launch-torchrun-missing",
}
RESULTS = record.read()
FAILED = [fault for fault in FAULTS if (RESULTS.get(fault.id, {}).get("train") or {}).get("code")]


def first(fault_id: str) -> str | None:
    found = diagnose([record.LOGS / f"{fault_id}.log"]).findings
    return found[0].cause if found else None


def filed(cause: str | None) -> str | None:
    return load.named(cause)["cause"] if cause else None


def test_most_failed_runs_are_named_from_their_log() -> None:
    told = {fault.id: first(fault.id) for fault in FAILED}
    shown = {fault.id: {filed(fault.cause), filed(SHOWS.get(fault.id, fault.cause))} for fault in FAILED}
    named = [fault for fault in FAILED if filed(told[fault.id]) in shown[fault.id]]
    missed = {fault.id: told[fault.id] for fault in FAILED if fault not in named}
    assert len(FAILED) >= 90
    assert len(named) >= 0.86 * len(FAILED), missed
    assert sum(found is not None for found in missed.values()) <= 0.05 * len(FAILED), missed


@pytest.mark.parametrize("base", BASES)
def test_runs_of_healthy_workspaces_give_nothing(base: str) -> None:
    result = diagnose([record.LOGS / f"healthy-{base.replace(' ', '-')}.log"])
    assert (result.findings, result.unrecognised) == ((), None)
