"""Makes run records for the tests of the report. Made up, also their GPU figures; the real record of a CPU run lies in
tests/doctor/report/runs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

BEGIN = 1767323045.0  # 2026-01-02 03:04:05 UTC
GIB = 2**30
HOSTILE = "</script><script>window.stolen=1</script><img src=x onerror=window.stolen=1>"
SECRET = "hf_" + "Zz91" * 9

RECIPE = """### model
model_name_or_path: /home/user/models/Qwen2.5-32B-Instruct

### method
stage: sft
finetuning_type: full
deepspeed: examples/deepspeed/ds_z3_offload_config.json  # ZeRO-3

### train
per_device_train_batch_size: 1
cutoff_len: 4096
learning_rate: 1.0e-5
"""
FACTS = {
    "python.version": "3.11.7",
    "python.executable": "/home/user/env/bin/python",
    "packages.versions": {"torch": "2.5.1", "llamafactory": "0.9.1", "deepspeed": "0.15.4", "zstandard": "0.25.0"},
    "gpu.devices": [{"index": i, "name": "NVIDIA H100 80GB HBM3", "memory_total": 85520809984} for i in range(8)],
    "gpu.driver": "550.54.15",
    "gpu.cuda": {"unknown": "timed out"},
    "machine.cpus": 128,
    "machine.memory_total": 2 * 2**40,
    "launch.world_size": 8,
    "model.name": "/home/user/models/Qwen2.5-32B-Instruct",
    "model.parameters": 32763876352,
    "recipe.overrides": {"cutoff_len": "4096"},
}
FINDING = {
    "cause": "ds-no-sync-zero",
    "severity": "error",
    "confidence": 0.98,
    "title": "recorded title",
    "why": "recorded why",
    "evidence": [{"what": "no_sync context manager is incompatible", "where": "train.log:120"}],
    "source": "log",
    "rank": 3,
    "fixes": [{"id": "pin-deepspeed-0.15.4", "class": "safe", "title": "recorded fix", "verified_on": {"sky-t1": {}}}],
    "does_not_help": [],
}


def _lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def step(number: int, total: int = 300, **more: Any) -> dict[str, Any]:
    loss = 0.6 + 0.9 * math.exp(-number / 60) + 0.05 * math.sin(number * 1.7)
    return {
        "time": BEGIN + 60 + 4 * number,
        "kind": "step",
        "step": number,
        "total": total,
        "epoch": number / 100,
        "loss": round(loss, 4),
        "learning_rate": 1e-5 * min(1.0, number / 30),
        "grad_norm": round(1.0 + 0.4 * math.cos(number), 4),
        "step_seconds": 4.0 + 0.3 * math.sin(number * 0.9),
        "tokens_per_second": 9000.0 + 400 * math.cos(number),
        **more,
    }


def sample(second: int, gpus: int = 8) -> dict[str, Any]:
    return {
        "time": BEGIN + second,
        "kind": "machine",
        "host_used": (300 + 500 * (1 - math.exp(-second / 120))) * GIB,
        "host_total": 2 * 2**40,
        "disk_free": (4000 - 0.4 * second) * GIB,
        "gpus": [
            {
                "index": i,
                "used": (20 + 45 * (second > 60) + i * 0.4) * GIB,
                "total": 85520809984,
                "utilisation": (70 + 25 * math.sin(second / 30 + i)) if second > 60 else 3.0,
                "watts": 640.0 - 20 * i,
                "celsius": 61 + i,
                "throttled": ["power"] if i == 7 else [],
                "ecc_errors": 0,
            }
            for i in range(gpus)
        ],
    }


def event(second: float, kind: str, en: str, zh: str, **more: Any) -> dict[str, Any]:
    return {"time": BEGIN + second, "kind": kind, "text": {"en": en, "zh": zh}, **more}


def _base(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(RECIPE)
    (folder / "facts.json").write_text(json.dumps(FACTS))
    command = {
        "command": ["/home/user/env/bin/llamafactory-cli", "train", ".skyt1-doctor/runs/20260102-030405/recipe.yaml"],
        "environment": {"NNODES": "1", "MASTER_PORT": "29501"},
        "workdir": "/home/user/LLaMA-Factory",
        "started": "2026-01-02T03:04:05+0000",
    }
    (folder / "command.json").write_text(json.dumps(command))
    return folder


def healed(folder: Path) -> Path:
    """A run on 8 GPUs that failed once, was mended, and trained to the end; rehearsed before."""
    _base(folder)
    _lines(
        folder / "metrics.jsonl",
        [sample(s) for s in range(0, 1270, 5)] + [step(n) for n in range(1, 301)],
    )
    alarm = {**FINDING, "cause": "gpu-throttled-by-a-later-release", "severity": "warning", "title": "GPU 7 is slow"}
    _lines(
        folder / "events.jsonl",
        [
            event(0, "launch", "Launched on 8 GPUs.", "已在 8 张 GPU 上启动。", attempt=1),
            event(64, "first-step", "The first step took 4.1 s.", "首步用时 4.1 秒。", attempt=1),
            event(460, "checkpoint", "checkpoint-100 was saved.", "已保存 checkpoint-100。", attempt=1),
            event(500, "alarm", "GPU 7 is throttled.", "GPU 7 被降频。", finding=alarm, attempt=1),
            event(520, "failure", "Exit code 1.", "退出码 1。", attempt=1),
            event(521, "diagnosis", "ds-no-sync-zero", "ds-no-sync-zero", finding=FINDING, attempt=1),
            event(530, "heal", "pin-deepspeed-0.15.4 was applied.", "已应用 pin-deepspeed-0.15.4。", attempt=1),
            event(560, "resume", "From checkpoint-100.", "自 checkpoint-100 续训。", attempt=2),
            event(1265, "end", "Exit code 0.", "退出码 0。", code=0, attempt=2),
        ],
    )
    rehearsal = {
        "passed": True,
        "seconds": 83.2,
        "fingerprint": "f",
        "cached": True,
        "stages": [
            {"id": "train", "passed": True, "seconds": 40.5},
            {"id": "save", "passed": True, "seconds": 9.0},
            {"id": "evaluate", "skipped": {"en": "the recipe evaluates nothing", "zh": "该配方不做评估"}},
        ],
        "not_rehearsed": [{"en": "NCCL between 8 GPUs", "zh": "8 张 GPU 之间的 NCCL"}],
        "findings": [],
    }
    (folder / "rehearsal.json").write_text(json.dumps(rehearsal))
    (folder / "train.log").write_text("loading\rhalf\rwhole\n{'loss': 0.6}\n")
    return folder


def hostile(folder: Path) -> Path:
    """A failed run whose every text tries to break out of the page, to mention people, or holds a secret."""
    _base(folder)
    finding = {
        **FINDING,
        "cause": HOSTILE,
        "title": f"{HOSTILE} @everyone token={SECRET}",
        "evidence": [{"what": f"``` {HOSTILE} ```` @team", "where": "</details></summary>\n# heading"}],
        "fixes": [{"id": HOSTILE, "class": HOSTILE, "title": HOSTILE, "verified_on": {HOSTILE: {}}}],
        "does_not_help": [{"id": "x", "what": HOSTILE, "why": "{{ 7*7 }}"}],
    }
    unknown = {
        "exception": HOSTILE,
        "message": f"bad {SECRET}",
        "excerpt": f"```\n{HOSTILE}\n~~~",
        "search_for": HOSTILE,
    }
    (folder / "findings.json").write_text(json.dumps({"findings": [finding, 7, None], "unrecognised": unknown}))
    odd = {7: float("nan"), 8: "inf"}  # as Python's json writes it, and as a word
    steps = [step(n, loss=odd.get(n, 1.0)) for n in range(1, 12)]
    card = {"index": 0, "used": "much", "throttled": [f"{HOSTILE}{SECRET}"]}
    machine = [{**sample(n), "gpus": [{**card, "used": n * GIB}]} for n in range(3)] + [{**sample(9), "gpus": [card]}]
    _lines(folder / "metrics.jsonl", steps + machine)
    _lines(
        folder / "events.jsonl",
        [
            event(0, "launch", HOSTILE, HOSTILE),
            event(60, "<b>new kind</b>", f"HF_TOKEN={SECRET}", "x"),
            event(90, "end", f"\u202e{HOSTILE}", HOSTILE, code=1),
        ],
    )
    (folder / "recipe.yaml").write_text(f"{RECIPE}run_name: '{HOSTILE}'\n")
    (folder / "train.log").write_bytes(
        f"\x1b[31m{HOSTILE}\x1b[0m\n````\n</details>\nHF_TOKEN={SECRET}\n".encode() + b"\xff\xfe\x00 broken\n"
    )
    return folder


def torn(folder: Path) -> Path:
    """What a kill leaves: files cut off in the middle of a line, others absent."""
    folder.mkdir(parents=True)
    rows = "".join(json.dumps(step(n)) + "\n" for n in range(1, 4))
    (folder / "metrics.jsonl").write_text(rows + json.dumps(sample(30))[:60])
    (folder / "events.jsonl").write_text(json.dumps(event(0, "launch", "a", "b")) + "\n" + '{"time": 17673')
    (folder / "rehearsal.json").write_text('{"passed": tr')
    (folder / "facts.json").write_text("[1, 2]")
    return folder
