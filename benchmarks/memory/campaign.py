"""Measure what LLaMA-Factory runs really take of one GPU: `python campaign.py first|second|third OUT [SECONDS]`.

Imports cost half a minute and training three steps costs seconds, so one parent imports everything, never touches CUDA,
and forks a child for each configuration: every child is a fresh process with a CUDA context of its own. `cold` in place
of a part runs three configurations in processes of their own, to show that this gives the same figures.
Each row is appended to OUT/rows.jsonl as soon as it is known.
"""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
ROOT = Path(os.environ.get("CAMPAIGN_ROOT", "/home/user/campaign"))
LIMIT = 150.0  # seconds for one configuration
STEPS = 3

warnings.filterwarnings("ignore", message=".*multi-threaded.*fork")  # no lock of ours is held while forking
SETTINGS = {  # of every process of a campaign; whoever only imports a helper from here keeps its own
    "DISABLE_VERSION_CHECK": "1", "PYTORCH_NVML_BASED_CUDA_CHECK": "1", "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error", "DS_SKIP_CUDA_CHECK": "1",
    "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "8",
}  # fmt: skip


# -- what the parent samples beside a running child -------------------------------------------------------------------
def sample(path: str) -> None:
    """Until killed: peak of the card (NVML), of host memory, and of the child's own memory, rewritten on each rise."""
    import pynvml

    pynvml.nvmlInit()
    card = pynvml.nvmlDeviceGetHandleByIndex(0)
    peaks = {"nvml": 0, "host": 0}
    while True:
        now = {"nvml": pynvml.nvmlDeviceGetMemoryInfo(card, version=pynvml.nvmlMemory_v2).used, "host": _host_used()}
        if any(now[key] > peaks[key] for key in now):
            peaks = {key: max(peaks[key], now[key]) for key in now}
            Path(path + ".new").write_text(json.dumps(peaks))
            os.replace(path + ".new", path)
        time.sleep(0.004)


def _host_used() -> int:
    """Bytes of host memory in use: not free and no page cache, but shared memory and what the driver pinned."""
    read = {}
    with open("/proc/meminfo") as file:
        for line in file:
            name, _, rest = line.partition(":")
            read[name] = int(rest.split()[0]) * 1024
    cache = read["Cached"] + read["Buffers"] + read["SReclaimable"] - read["Shmem"]
    return read["MemTotal"] - read["MemFree"] - cache


# -- one run, in a child ----------------------------------------------------------------------------------------------
class Phases:
    """Peaks of torch's allocator between the moments of a step."""

    def __init__(self) -> None:
        self.peaks: dict[str, int] = {}
        self.reserved = 0
        self.at: dict[str, int] = {}
        self.times: list[float] = []
        self.started = 0.0

    def end(self, phase: str) -> None:
        import torch

        if not torch.cuda.is_initialized():
            return
        torch.cuda.synchronize()
        self.peaks[phase] = max(self.peaks.get(phase, 0), torch.cuda.max_memory_allocated())
        self.reserved = max(self.reserved, torch.cuda.max_memory_reserved())
        self.at[phase] = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()


def watch(phases: Phases) -> Any:
    """Hooks around forward, backward and optimizer of the trainer and of DeepSpeed's engine; a callback for steps."""
    from llamafactory.train.sft.trainer import CustomSeq2SeqTrainer as Trainer
    from transformers import TrainerCallback

    forward = Trainer.compute_loss

    def compute_loss(self: Any, *args: Any, **kwargs: Any) -> Any:
        phases.end("between")
        result = forward(self, *args, **kwargs)
        phases.end("forward")
        return result

    Trainer.compute_loss = compute_loss
    if "deepspeed.runtime.engine" in sys.modules:
        from deepspeed.runtime.engine import DeepSpeedEngine

        step = DeepSpeedEngine.step

        def timed(self: Any, *args: Any, **kwargs: Any) -> Any:
            phases.end("backward")
            result = step(self, *args, **kwargs)
            phases.end("optimizer")
            return result

        DeepSpeedEngine.step = timed

    class Watch(TrainerCallback):
        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            phases.end("load")

        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            phases.started = time.perf_counter()

        def on_substep_end(self, *args: Any, **kwargs: Any) -> None:
            phases.end("backward")

        def on_pre_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
            phases.end("backward")

        def on_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
            phases.end("optimizer")

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            phases.end("between")
            phases.times.append(round(time.perf_counter() - phases.started, 4))

    return Watch()


def arguments(config: dict[str, Any], output: Path) -> dict[str, Any]:
    """The recipe of one configuration."""
    engine = config["engine"]
    recipe = {
        "stage": "sft", "do_train": True, "model_name_or_path": str(ROOT / "models" / config["shape"]),
        "dataset": "random", "tokenized_path": str(output / "data"), "template": "empty", "cutoff_len": config["length"],
        "output_dir": str(output / "out"), "overwrite_output_dir": True, "save_strategy": "no", "report_to": "none",
        "per_device_train_batch_size": config["batch"], "gradient_accumulation_steps": config.get("accumulation", 1),
        "learning_rate": 1e-5, "max_steps": config.get("steps", STEPS), "logging_steps": 1, "disable_tqdm": True,
        "dataloader_num_workers": 0, "lr_scheduler_type": "constant", **config["recipe"],
    }  # fmt: skip
    if engine.startswith("z"):
        recipe["deepspeed"] = str(deepspeed_json(engine, output))
    return recipe


def deepspeed_json(engine: str, output: Path) -> Path:
    """The JSON of LLaMA-Factory's examples/deepspeed for that stage, with the offload asked for."""
    stage, _, offload = engine.partition("-")
    zero: dict[str, Any] = {"stage": int(stage[1])}
    if zero["stage"] < 3:
        zero |= {"allgather_partitions": True, "allgather_bucket_size": 5e8, "overlap_comm": False,
                 "reduce_scatter": True, "reduce_bucket_size": 5e8, "contiguous_gradients": True,
                 "round_robin_gradients": True}  # fmt: skip
    else:
        zero |= {"overlap_comm": False, "contiguous_gradients": True, "sub_group_size": 1e9,
                 "reduce_bucket_size": "auto", "stage3_prefetch_bucket_size": "auto",
                 "stage3_param_persistence_threshold": "auto", "stage3_max_live_parameters": 1e9,
                 "stage3_max_reuse_distance": 1e9, "stage3_gather_16bit_weights_on_model_save": True}  # fmt: skip
    if offload:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
    if offload == "o":
        zero["offload_param"] = {"device": "cpu", "pin_memory": True}
    document = {
        "train_batch_size": "auto", "train_micro_batch_size_per_gpu": "auto", "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto", "zero_allow_untested_optimizer": True,
        "fp16": {"enabled": "auto", "loss_scale": 0, "loss_scale_window": 1000, "initial_scale_power": 16,
                 "hysteresis": 2, "min_loss_scale": 1},
        "bf16": {"enabled": "auto"}, "zero_optimization": zero,
    }  # fmt: skip
    path = output / "deepspeed.json"
    path.write_text(json.dumps(document))
    return path


def write_samples(config: dict[str, Any], output: Path, ranks: int = 1) -> None:
    """The random data set of one configuration, as many samples as its steps take on so many ranks."""
    from models import SHAPES, write_data

    count = config["batch"] * config.get("accumulation", 1) * config.get("steps", STEPS) * ranks
    vocabulary = SHAPES[config["shape"]]["vocab_size"]
    write_data(
        output / "data", vocabulary, config["length"], count, config.get("ragged", False), config.get("parts", 1)
    )


def train(config: dict[str, Any], output: Path) -> dict[str, Any]:
    """Train one configuration in this process; the row without what the parent adds."""
    import torch

    if config["engine"] != "none" and "RANK" not in os.environ:
        os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1",
                       "MASTER_PORT": str(random.randrange(20000, 40000))}  # fmt: skip
    if not (output / "data").exists():
        write_samples(config, output)
    from llamafactory.train.sft.trainer import CustomSeq2SeqTrainer as Trainer
    from llamafactory.train.tuner import run_exp

    phases, found = Phases(), {"outcome": "trained"}
    callback = watch(phases)
    if not config.get("save"):
        Trainer.save_model = lambda *args, **kwargs: None
    try:
        run_exp(arguments(config, output), [callback])
        phases.end("save" if config.get("save") else "between")
    except torch.OutOfMemoryError as error:
        found = {"outcome": "out of memory", "message": str(error).split(" See documentation")[0],
                 "backtrace_of": _where(error)}  # fmt: skip
        phases.end("failed")
    except Exception as error:  # noqa: BLE001 - a campaign goes on; the row says what failed
        import traceback

        found = {"outcome": "failed", "message": f"{type(error).__name__}: {error}"[:500]}
        found["traceback"] = traceback.format_exc()[-1500:]
        phases.end("failed")
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        **found,
        "allocated": max(phases.peaks.values(), default=0),
        "reserved": phases.reserved,
        "phases": phases.peaks,
        "left": phases.at,
        "rss": int(status["VmHWM"].split()[0]) * 1024,
        "step_seconds": phases.times,
    }


def _where(error: BaseException) -> str:
    """The innermost frames' functions, to see in which part of the step it happened."""
    import traceback

    return " < ".join(frame.name for frame in traceback.extract_tb(error.__traceback__)[:-9:-1])


# -- the parent -------------------------------------------------------------------------------------------------------
def run_one(config: dict[str, Any], number: int) -> dict[str, Any]:
    """Fork, train, sample; the finished row."""
    output = ROOT / f"run{number}"
    output.mkdir(parents=True, exist_ok=True)
    while not (ROOT / "models" / config["shape"] / "model.safetensors").exists():
        time.sleep(0.2)
    idle = _host_used()
    sampler = subprocess.Popen([sys.executable, __file__, "sample", str(output / "peaks.json")])
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            log = os.open(output / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            gc.collect()
            (output / "row.json").write_text(json.dumps(train(config, output)))
            code = 0
        finally:
            sys.stdout.flush()
            os._exit(code)
    timer = threading.Timer(LIMIT, os.kill, (child, signal.SIGKILL))
    timer.start()
    _, status = os.waitpid(child, 0)
    timer.cancel()
    seconds = round(time.monotonic() - started, 1)
    sampler.kill()
    sampler.wait()
    result = {"outcome": "failed", "message": f"exit status {status}"}
    if (output / "row.json").exists():
        result = json.loads((output / "row.json").read_text())
    elif (output / "log.txt").exists():
        result["traceback"] = (output / "log.txt").read_text()[-1500:]
    kept = output / "peaks.json"
    peaks = json.loads(kept.read_text()) if kept.exists() else {"nvml": 0, "host": 0}
    subprocess.run(["rm", "-rf", str(output)], check=False)
    host = peaks["host"] - idle
    return {**config, **result, "nvml": peaks["nvml"], "host": host, "wall_seconds": seconds}


def machine() -> dict[str, Any]:
    """Versions and the card, the first line of a data file."""
    import importlib.metadata as metadata

    import pynvml

    pynvml.nvmlInit()
    card = pynvml.nvmlDeviceGetHandleByIndex(0)
    memory = pynvml.nvmlDeviceGetMemoryInfo(card, version=pynvml.nvmlMemory_v2)
    names = ("torch", "transformers", "llamafactory", "deepspeed", "accelerate", "peft", "trl", "datasets",
             "bitsandbytes", "liger_kernel", "triton")  # fmt: skip
    versions: dict[str, str] = {}
    for name in names:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    found = {"card": pynvml.nvmlDeviceGetName(card), "driver": pynvml.nvmlSystemGetDriverVersion(),
             "total": memory.total, "reserved_by_driver": memory.reserved, "idle": memory.used,
             "python": sys.version.split()[0], "versions": versions}  # fmt: skip
    pynvml.nvmlShutdown()
    return found


def import_all() -> None:
    """Import once what every child needs, without starting CUDA: what is asked of the card meanwhile is answered here."""
    import torch

    card = SimpleNamespace(major=9, minor=0, name="NVIDIA H100", multi_processor_count=132, total_memory=80 << 30)
    answers = {
        "is_bf16_supported": lambda *_, **__: True,
        "get_device_capability": lambda *_, **__: (card.major, card.minor),
        "get_device_properties": lambda *_, **__: card,
        "get_device_name": lambda *_, **__: card.name,
    }
    true = {name: getattr(torch.cuda, name) for name in answers}
    for name, answer in answers.items():
        setattr(torch.cuda, name, answer)
    import deepspeed  # noqa: F401
    from llamafactory.train import tuner  # noqa: F401
    from llamafactory.train.sft import trainer, workflow  # noqa: F401
    from transformers.models.qwen2 import modeling_qwen2  # noqa: F401

    for name, function in true.items():
        setattr(torch.cuda, name, function)


def main() -> None:
    os.environ |= SETTINGS
    command, folder = sys.argv[1], sys.argv[2]
    if command == "sample":
        sample(folder)
    if command == "models":
        from models import write_model

        for shape in sys.argv[3:]:
            write_model(Path(folder), shape)
        return
    if command == "one":
        config = json.loads(sys.argv[3])
        if os.environ.get("GO"):  # import beside the campaign, train after it
            import_all()
            while not Path(os.environ["GO"]).exists():
                time.sleep(0.2)
        sampler = subprocess.Popen([sys.executable, __file__, "sample", f"{folder}/peaks.json"])
        result = train(config, Path(folder))
        sampler.kill()
        kept = Path(f"{folder}/peaks.json")
        peaks = json.loads(kept.read_text()) if kept.exists() else {"nvml": 0}
        print("COLD " + json.dumps({**config, **result, "nvml": peaks["nvml"]}), flush=True)
        return
    from grid import PARTS

    out, budget = Path(folder), float(sys.argv[3]) if len(sys.argv) > 3 else 540.0
    started = time.monotonic()
    rows = open(out / "rows.jsonl", "a", buffering=1)  # noqa: SIM115 - open to the end, each row is written at once
    rows.write(json.dumps({"machine": machine()}) + "\n")
    import torch

    import_all()
    print(f"imports took {time.monotonic() - started:.1f} s; CUDA touched: {torch.cuda.is_initialized()}", flush=True)
    if torch.cuda.is_initialized():
        sys.exit("an import started CUDA: children could not use it")
    while os.environ.get("WAIT_FOR") and not Path(os.environ["WAIT_FOR"]).exists():
        time.sleep(0.5)  # for a build that holds a CUDA context
    only = [int(n) for n in sys.argv[4].split(",")] if len(sys.argv) > 4 else None
    failures = 0
    for number, config in enumerate(PARTS[command]):
        if time.monotonic() - started > budget or (only is not None and number not in only):
            continue
        result = run_one(config, number)
        rows.write(json.dumps(result) + "\n")
        shown = {k: round(result.get(k, 0) / 2**20) for k in ("allocated", "reserved", "nvml", "host")}
        name = " ".join(str(config[k]) for k in ("shape", "length", "batch", "engine"))
        print(number, name, result["outcome"], shown, result["wall_seconds"], flush=True)
        failures = failures + 1 if result["outcome"] == "failed" else 0
        if failures == 4:
            sys.exit("four configurations in a row failed: something is wrong with this machine or this script")
        if failures:
            print("   ", result["message"], result.get("traceback", "")[-600:], flush=True)


if __name__ == "__main__":
    main()
