"""A stand-in for a training environment: an interpreter and a llamafactory-cli that write what the real ones write.

The cli reads the recipe that it is given and does as its key `run_name` says, so that every way in which a launch can
end is had in a second. The real packages are in tests/stack/rehearse.
"""

from __future__ import annotations

import json
import math
import struct
import sys
from pathlib import Path

from doctor import examine
from doctor.facts import Facts
from doctor.probes import dataset, deepspeed, llamafactory, model, recipe
from doctor.recipe import expected_tensors
from doctor.target import Interpreter, Target

PYTHON = """\
import json, pathlib, sys
script, folder = pathlib.Path(sys.argv[1]).name, pathlib.Path(sys.argv[2])
if script == "model_child.py":
    (folder / "model.safetensors").write_bytes(b"random")
    print(json.dumps({"parameters": 12345, "class": "Qwen2ForCausalLM"}))
else:
    assert list(folder.glob("*.safetensors")), "nothing to load"
    print(json.dumps({"loaded": "Qwen2ForCausalLM"}))
"""
CLI = """\
import json, os, pathlib, sys, time
import yaml
recipe = yaml.safe_load(open(sys.argv[2]))
wanted, out = recipe.get("run_name", ""), pathlib.Path(recipe["output_dir"])
model = pathlib.Path(recipe["model_name_or_path"])
assert (model / "tokenizer.json").exists() and (model / "model.safetensors").exists()
info = json.load(open(pathlib.Path(recipe["dataset_dir"]) / "dataset_info.json"))
rows = json.load(open(pathlib.Path(recipe["dataset_dir"]) / info["sky"]["file_name"]))
assert rows and int(os.environ["NPROC_PER_NODE"]) >= 1
def no_sync(): raise AssertionError(
    "no_sync context manager is incompatible with gradient partitioning logic of ZeRO stage 3")
begun = recipe.get("resume_from_checkpoint")
first = int(begun.rpartition("-")[2]) if begun else 0
if begun: assert (pathlib.Path(begun) / "trainer_state.json").exists()
if begun and wanted == "resume": raise RuntimeError("odd failure of a resume")
if wanted == "train": no_sync()
if wanted == "hang":
    locked = pathlib.Path("ext/py311/cpu_adam/lock")
    locked.parent.mkdir(parents=True)
    locked.touch()
    print(f"Using {locked.parent.parent.absolute()} as PyTorch extensions root...", flush=True)
    time.sleep(600)
for step in range(first + 1, recipe["max_steps"] + 1):
    loss = "nan" if wanted == "nan" else 12.5 if wanted != "spike" else 12.5 * 1000 ** (step - 1)
    print({"loss": loss, "grad_norm": 1.0, "learning_rate": 1e-5, "epoch": 0.1}, flush=True)
    if recipe.get("save_strategy") != "no" and step % recipe["save_steps"] == 0:
        print(f"[INFO|trainer.py:3801] >> Saving model checkpoint to {out}/checkpoint-{step}", flush=True)
        folder = out / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "trainer_state.json").write_text("{}")
        if wanted == "save":
            def _save_checkpoint(): raise OSError(28, "No space left on device")
            _save_checkpoint()
out.mkdir(parents=True, exist_ok=True)
if wanted != "empty": (out / "model.safetensors").write_bytes(b"trained")
print({"train_runtime": 1.0, "train_loss": 12.5})
"""
RECIPE = """\
# the recipe of a user
model_name_or_path: models/big  # a comment
stage: sft
do_train: true
finetuning_type: full
dataset: sky
template: qwen
cutoff_len: 16384
output_dir: saves/big/full
logging_steps: 10
save_steps: 100
learning_rate: 1.0e-5
gradient_accumulation_steps: 4
num_train_epochs: 3.0
report_to: wandb
"""
CONFIG = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 5120, "num_hidden_layers": 64,
          "num_attention_heads": 40, "num_key_value_heads": 8, "intermediate_size": 27648, "vocab_size": 1000,
          "torch_dtype": "bfloat16"}  # fmt: skip
ENTRY = {"file_name": "sky.json", "formatting": "sharegpt", "columns": {"messages": "conversations"},
         "tags": {"role_tag": "from", "content_tag": "value", "user_tag": "user", "assistant_tag": "assistant"}}  # fmt: skip


def _script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o755)


def _holes(path: Path) -> None:
    """Weights that fit CONFIG: a header and 65 GB that take no room on the disk."""
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in expected_tensors.wanted(CONFIG).items():
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


def build(root: Path, run_name: str = "", extra: str = "", rows: int = 40) -> Target:
    """A workspace whose cli does as `run_name` says; `extra` are more lines of the recipe."""
    _script(root / "env/bin/python", PYTHON)
    _script(root / "env/bin/llamafactory-cli", CLI)
    work = root / "work space"  # llamafactory-cli splits its command at spaces
    (work / "data").mkdir(parents=True)
    (work / "recipe.yaml").write_text(RECIPE + (f"run_name: {run_name}\n" if run_name else "") + extra)
    turns = [{"from": "user", "value": "1 + 1?"}, {"from": "assistant", "value": "2"}]
    (work / "data/sky.json").write_text(json.dumps([{"conversations": turns}] * rows))
    (work / "data/dataset_info.json").write_text(json.dumps({"sky": ENTRY, "other": {"file_name": "gone.json"}}))
    folder = work / "models/big"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    tokens = {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "added_tokens": []}
    (folder / "tokenizer.json").write_text(json.dumps(tokens))
    (folder / "tokenizer_config.json").write_text("{}")
    _holes(folder / "model.safetensors")
    bin_ = str(root / "env/bin")
    interpreter = Interpreter(
        version="3.11.7", prefix=str(root / "env"), base_prefix="/usr", executable=f"{bin_}/python", site=(), path=(),
        scripts=bin_, include="", user_site=False,
    )  # fmt: skip
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(root), "NPROC_PER_NODE": "8", "LANG": "C.UTF-8"}
    return Target(Path(bin_) / "python", interpreter, "a test", work, work / "recipe.yaml", environ)


PROBES = (recipe, llamafactory, dataset, deepspeed, model)  # the stand-in has no packages to judge


def facts_of(target: Target) -> Facts:
    """What a rehearsal reads, collected by the real probes; a machine of one node without a GPU."""
    known = {"gpu.count": 0, "launch.world_size": 8, "launch.nnodes": 1, "launch.nproc_given": True}
    return examine.collect(target, PROBES, 20.0)[0].merged({**known, "packages.versions": {"torch": "2.5.1"}})
