"""Why ranks on a CPU wait for each gather: `python -m tests.stack.rehearse.gathers ENVIRONMENT [LOADS]`.

A small Qwen2 is loaded under ZeRO-3 by two ranks, as often with doctor/rehearse/gathers_child.py as without, beside two
processes that keep the cores busy. In how many of the loads a weight was wrong goes into results.json.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from doctor.rehearse import cpu, launches
from tests.stack.rehearse.__main__ import RESULTS
from tests.stack.reproductions.stacks import Installed

LOADS = Path(__file__).with_name("gathers_loads.py")
MAKE = """\
import sys, torch, transformers
sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
config = transformers.Qwen2Config(vocab_size=1000, num_key_value_heads=2, tie_word_embeddings=False, **sizes)
transformers.AutoModelForCausalLM.from_config(config, torch_dtype=torch.bfloat16).save_pretrained(sys.argv[1])
"""


def wrong_loads(environment: Installed, model: Path, loads: int, environ: dict[str, str]) -> int:
    python = str(environment.python)
    command = [python, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={launches.free_port()}"]
    done = subprocess.run(
        [*command, str(LOADS), str(model), str(loads)], env=environ, capture_output=True, text=True, check=False
    )
    found = re.search(r"^WRONG (\d+)$", done.stdout, re.MULTILINE)
    if found is None:
        raise RuntimeError(done.stderr[-2000:])
    return int(found[1])


def measure(prefix: Path, loads: int) -> dict[str, int]:
    environment = Installed(prefix)
    environ = {**environment.environ, "LOCAL_SIZE": "2", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / "model"
            subprocess.run([environment.python, "-c", MAKE, model], env=environ, check=True, capture_output=True)
            waiting = cpu.await_gathers(environ, Path(folder) / "site")
            plain = wrong_loads(environment, model, loads, environ)
            return {"loads": loads, "wrong": plain, "wrong_waiting": wrong_loads(environment, model, loads, waiting)}
    finally:
        for process in busy:
            process.kill()
            process.wait()


if __name__ == "__main__":
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    results["gathers"] = measure(Path(sys.argv[1]).absolute(), int(sys.argv[2]) if len(sys.argv) > 2 else 200)
    RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps(results["gathers"]))
