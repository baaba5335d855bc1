"""Causes that need a GPU, made to happen on one: the run fails, its log is diagnosed and kept, what heals it is applied,
the same recipe is run again.

A case is healed by `fix --from-log` where a fix of the doctor can, else by hand as the finding says: a variable of the
shell is taken back.
"""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import place
from rows import Done, Out, causes
from trained import train

LIMIT = 240.0  # seconds for one run: several start side by side, and one compiles DeepSpeed's Adam
AT_ONCE = 5
TOOLKIT = Path("/usr/local/cuda")
FIRST_PORT = 29520
# A model whose embedding has fewer rows than its tokenizer has tokens.
NARROW = """
import json, sys
from pathlib import Path
from safetensors.torch import load_file, save_file
folder = Path(sys.argv[1])
config = json.loads((folder / "config.json").read_text())
weights = load_file(folder / "model.safetensors")
weights["model.embed_tokens.weight"] = weights["model.embed_tokens.weight"][:100].contiguous()
save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
(folder / "config.json").write_text(json.dumps({**config, "vocab_size": 100}))
"""


@dataclass(frozen=True)
class Case:
    """`values` and `zero` change the recipe, `environ` the shell. `fix`: the cause and fix to apply; empty: the variables
    are taken back by hand."""

    name: str
    values: dict[str, Any] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)
    fix: str = ""
    model: str = "tiny"
    zero: tuple[int, str] | None = None


CASES = (
    Case("ids-out-of-range", model="narrow", fix="tok-ids-out-of-range,tok-vocab-mismatch"),
    Case("flash-attention", {"flash_attn": "fa2"}, fix="attn-flash-missing"),
    Case("hidden-gpu", {"bf16": True}, {"CUDA_VISIBLE_DEVICES": "7"}),
    Case("stub-driver", {"bf16": True}, {"LD_LIBRARY_PATH": "{root}/stub"}),
    Case("no-nvcc", environ={"CUDA_HOME": "/opt/cuda-gone", "TORCH_EXTENSIONS_DIR": "{root}/ops"}, zero=(2, "optimizer")),
    Case("wrong-interface", environ={"NCCL_SOCKET_IFNAME": "eth9"}),
    Case("two-processes", environ={"NPROC_PER_NODE": "2"}),
    Case("allocator-option", environ={"PYTORCH_CUDA_ALLOC_CONF": "expandable_segment:True"}),
    Case("quantised", {"finetuning_type": "lora", "quantization_bit": 4}, fix="quant-backend-missing"),
)  # fmt: skip
# Alone, because it takes the whole card: the logits of 131,000 tokens over 152,000 words.
MEMORY = Case(
    "out-of-memory",
    {"per_device_train_batch_size": 32, "gradient_accumulation_steps": 1, "cutoff_len": 4096, "packing": True,
     "bf16": True, "max_steps": 2},
    fix="cuda-oom", model="0.5B",
)  # fmt: skip


def run(out: Out, doctor: Path, new: Path, root: Path, names: list[str]) -> None:
    place.write_models(new, root / "models", ["tiny", "0.5B"])
    narrow = root / "models" / "narrow"
    if not narrow.exists():
        subprocess.run(["cp", "-r", str(root / "models" / "tiny"), str(narrow)], check=True)
        subprocess.run([str(new), "-c", NARROW, str(narrow)], check=True)
    (root / "stub").mkdir(exist_ok=True)
    (root / "stub" / "libcuda.so.1").symlink_to(TOOLKIT / "lib64" / "stubs" / "libcuda.so")
    out.row("versions", versions=place.versions(new))
    chosen = [case for case in (MEMORY, *CASES) if not names or case.name in names]
    if MEMORY in chosen:
        _case(out, doctor, new, root, MEMORY, FIRST_PORT)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        beside = [case for case in chosen if case is not MEMORY]
        for done in [pool.submit(_case, out, doctor, new, root, c, FIRST_PORT + 1 + n) for n, c in enumerate(beside)]:
            done.result()


def _case(out: Out, doctor: Path, new: Path, root: Path, case: Case, port: int) -> None:
    config = place.zero(*case.zero) if case.zero else None
    work = place.Workspace(root / case.name, root / "models" / case.model, config, **case.values)
    well = place.environ_of(new, 1, False, MASTER_PORT=str(port))
    given = {name: value.format(root=root) for name, value in case.environ.items()}
    broken = {**well, **given}
    before = train(out, new, broken, work, f"{case.name} as it is", LIMIT)
    said = Done(place.doctor(doctor, "diagnose", before, "--format", "json"), work.root, broken, 60)
    document = said.document()
    found = causes(document)
    evidence = [item["what"][:200] for one in document.get("findings", ())[:1] for item in one["evidence"][:1]]
    out.row(f"{case.name} diagnose", findings=found, evidence=evidence, unrecognised=document.get("unrecognised"))
    told = [work.RECIPE, "--python", str(new)]
    seen = Done(place.doctor(doctor, "check", *told, "--offline", "--format", "json"), work.root, broken, 60)
    out.row(f"{case.name} check", code=seen.code, seconds=seen.seconds, findings=causes(seen.document()))
    if case.fix:
        words = ("--from-log", before, "--apply", "--yes", "--only", case.fix, "--offline", "--format", "json")
        done = Done(place.doctor(doctor, "fix", *told, *words), work.root, broken, 120)
        answer = done.document()
        outcomes = [f"{o['cause']}/{o['fix']}: {o['outcome']}" for o in answer.get("outcomes", ())]
        out.row(f"{case.name} fix", code=done.code, outcomes=outcomes, said=None if outcomes else done.text[-1200:])
        out.keep(f"{case.name}-recipe.txt", (work.root / work.RECIPE).read_text())
    train(out, new, broken if case.fix else well, work, f"{case.name} after it", LIMIT)


def names_of(text: str) -> list[str]:
    """`a,b` of the command line."""
    known = {case.name for case in (MEMORY, *CASES)}
    asked = [name for name in text.split(",") if name]
    if wrong := set(asked) - known:
        raise SystemExit(f"{', '.join(sorted(wrong))}: no such case; there are {', '.join(sorted(known))}")
    return asked
