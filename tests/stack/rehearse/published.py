"""How long the rehearsal of the published recipe takes: `python -m tests.stack.rehearse.published FOLDER ENVIRONMENT`.

The recipe as published (cutoff_len 16384, accumulation 12, ZeRO-3 with offload), a model folder with the configuration of
a 32B Qwen2.5 and as many tokens as it has, records as long as Sky-T1's; two processes. Only what never ran anywhere is
corrected: model, data, template. It is measured as a user meets it, every start of Python its own, and goes into
results.json. DeepSpeed's operators must have been built before (the first call builds them).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.model import write as write_weights
from demo import workspace
from doctor import examine, target
from doctor.rehearse import rehearse
from tests.stack.rehearse.__main__ import RESULTS, _tell
from tests.stack.reproductions.place import Place
from tests.stack.reproductions.stacks import Installed

# config.json of Qwen/Qwen2.5-32B-Instruct, without what no launch reads
CONFIG = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 5120,
    "intermediate_size": 27648,
    "num_hidden_layers": 64,
    "num_attention_heads": 40,
    "num_key_value_heads": 8,
    "vocab_size": 152064,
    "max_position_embeddings": 32768,
    "max_window_layers": 70,
    "rope_theta": 1000000.0,
    "rms_norm_eps": 1e-06,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_cache": True,
}
TOKENS = 151665  # of its tokenizer; the rest of vocab_size is padding
RECORDS, LONGEST = 4000, 60_000  # characters of an answer


def prepare(place: Place) -> None:
    """The published recipe with a model, data and a template that exist."""
    (place.model / "model.safetensors").unlink()
    whole = place.model.with_name("32B")
    whole.mkdir()
    write_weights(whole, 17)  # 65 GB of holes, of which a rehearsal reads the headers
    for file in whole.glob("*.safetensors*"):
        file.rename(place.model / file.name)
    (place.model / "config.json").write_text(json.dumps(CONFIG, indent=1))
    widen(place.model / "tokenizer.json")
    rows = place.rows()
    many = [lengthened(rows[number % len(rows)], number) for number in range(RECORDS)]
    place.write_rows(many)
    text = workspace.RECIPE.replace("Qwen/Qwen2.5-32B-Instruct", str(place.model)).replace("qwen25", "qwen")
    place.recipe.write_text(text)
    place.environ |= {"NPROC_PER_NODE": "2", "FORCE_TORCHRUN": "1"}


def widen(path: Path) -> None:
    """As many tokens as the real tokenizer has, so that logits and embeddings cost what they cost there."""
    content = json.loads(path.read_text())
    vocabulary = content["model"]["vocab"]
    for number in range(len(vocabulary), TOKENS):
        vocabulary[f"<unused{number}>"] = number
    path.write_text(json.dumps(content, ensure_ascii=False))


def lengthened(row: dict[str, Any], number: int) -> dict[str, Any]:
    """A record whose answer is as long as a thought of Sky-T1: from a few hundred to some ten thousand characters."""
    turns = [dict(turn) for turn in row["conversations"]]
    length = 300 + (number * 7919) % (LONGEST if number % 50 == 0 else 16_000)
    turns[-1]["value"] += " Let me check this once more, step by step." * (length // 43)
    return {**row, "conversations": turns}


def measure(folder: Path, prefix: Path) -> dict[str, Any]:
    environment = Installed(prefix)
    place = Place(folder, environment)
    prepare(place)
    found = target.find(None, str(place.root), str(environment.python), offline=True)
    found = msgspec.structs.replace(found, environ={**environment.environ, **place.environ})
    facts = examine.examine(found, 20.0).facts
    begun = time.monotonic()
    result = rehearse(found, facts, _tell)
    return {
        "verdict": result.verdict,
        "seconds": round(time.monotonic() - begun, 1),
        "stages": {stage.id: stage.seconds for stage in result.stages if not stage.skipped},
        "changed": result.limit,
        "causes": [finding.cause for finding in result.findings],
        "unrecognised": result.unrecognised,
    }


if __name__ == "__main__":
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results["published"] = measure(Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute())
    RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(results["published"], indent=1))
