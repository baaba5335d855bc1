"""What lies around the recipe for fixes to choose from: other DeepSpeed JSONs, checkpoints, caches, library folders.

Facts only; `doctor.details` tells from them what a fix asks for.
"""

from __future__ import annotations

import configparser
import glob
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from doctor import redact
from doctor.estimate import states
from doctor.facts import Facts
from doctor.hub import settings
from doctor.probes import Judgement
from doctor.target import Target

ID = "surroundings"
AFTER: tuple[str, ...] = ("recipe",)

MOST = 50  # checkpoints or files of one folder that are looked at
_CONFIG_SIZE = 1 << 20  # bytes; a DeepSpeed JSON has a few hundred
# Variables that fixes take away; secrets are masked.
_VARIABLES = (
    "CUDA_VISIBLE_DEVICES", "BNB_CUDA_VERSION", "LD_PRELOAD", "WANDB_ENTITY", "NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME",
    "HF_HUB_DISABLE_XET",
)  # fmt: skip
_LIBRARIES = {
    "cuda": ("libcudart.so*", "libcublas.so*", "libnvJitLink.so*"),
    "cudnn": ("libcudnn*.so*",),
    "nccl": ("libnccl.so*",),
}
_ROUTE = Path("/proc/net/route")


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    values, environ = facts["recipe.values"], target.environ
    extensions = Path(environ.get("TORCH_EXTENSIONS_DIR") or settings.home(environ) / ".cache" / "torch_extensions")
    datasets = Path(environ.get("HF_DATASETS_CACHE") or settings.hf_home(environ) / "datasets")
    libstdcxx = target.prefix / "lib" / "libstdc++.so.6"
    return {
        "surroundings.environ": {n: redact.text(environ[n]) for n in _VARIABLES if n in environ},
        "surroundings.deepspeed_configs": list(_deepspeed_configs(target, values.get("deepspeed"))),
        "surroundings.checkpoints": _checkpoints(target, values),
        "surroundings.library_path": [_library_folder(p) for p in environ.get("LD_LIBRARY_PATH", "").split(":") if p],
        "surroundings.environment_libstdcxx": str(libstdcxx.parent) if os.path.exists(libstdcxx) else None,
        "surroundings.extensions_dir": str(extensions) if os.path.isdir(extensions) else None,
        "surroundings.datasets_cache": str(datasets) if os.path.isdir(datasets) else None,
        "surroundings.compilers": _compilers(environ.get("PATH")),
        "surroundings.cuda_homes": _cuda_homes(),
        "surroundings.route_interface": _route_interface(),
        "surroundings.download_running": _download_running(),
        "surroundings.wandb_stored": _wandb_stored(environ),
        "surroundings.hub_login_stored": os.path.isfile(settings.token_path(environ)),
    }


def _deepspeed_configs(target: Target, named: Any) -> Iterator[dict[str, Any]]:
    """`{path, stage, optimizer, parameters}` of the JSONs beside the recipe's own and where LLaMA-Factory keeps them."""
    folders = [target.workdir / "examples" / "deepspeed"]
    if isinstance(named, str):
        folders.append((target.workdir / named).parent)
    for path in sorted({p.resolve(): p for f in folders for p in list(f.glob("*.json"))[:MOST]}.values()):
        try:
            config = json.loads(path.read_bytes()) if path.stat().st_size <= _CONFIG_SIZE else None
        except (OSError, ValueError):  # not one that a recipe could use
            continue
        if isinstance(config, dict) and "zero_optimization" in config:
            zero = states.offload(config)
            yield {
                "path": target.shown(path),
                "stage": zero.stage,
                "optimizer": zero.optimizer,
                "parameters": zero.parameters,
            }


def _checkpoints(target: Target, values: Any) -> list[dict[str, Any]]:
    """The checkpoints under output_dir and the one that is resumed from, the one with most steps first."""
    folders: dict[Path, None] = {}
    for key in ("resume_from_checkpoint", "output_dir", "adapter_name_or_path", "reward_model"):
        if isinstance(values.get(key), str):
            top = target.workdir / values[key]
            folders[top] = None
            folders |= dict.fromkeys(top.parent.glob("checkpoint-*"))
            folders |= dict.fromkeys(top.glob("checkpoint-*"))
    found = [_checkpoint(target, folder) for folder in list(folders)[:MOST] if folder.is_dir()]
    some = [c for c in found if c["weights"] or c["adapter"] or c["step"] is not None]
    return sorted(some, key=lambda c: -(c["step"] or 0))


def _checkpoint(target: Target, folder: Path) -> dict[str, Any]:
    """`complete`: it can be resumed from, by the files that the Trainer and DeepSpeed read then."""
    names = set(os.listdir(folder))
    step = re.search(r"checkpoint-(\d+)$", folder.name)
    weights = any(n.endswith((".safetensors", ".bin")) and n.startswith(("model", "pytorch_model")) for n in names)
    adapter = any(n.startswith("adapter_model") for n in names)
    latest = folder / "latest"
    zero = folder / latest.read_text().strip() if "latest" in names else None
    ranks = sorted(zero.glob("*optim_states.pt")) if zero is not None and zero.is_dir() else []
    optimizer = bool(ranks) if zero is not None else "optimizer.pt" in names
    empty = [p for p in (*ranks, *(folder / n for n in names)) if p.is_file() and p.stat().st_size == 0]
    return {
        "path": target.shown(folder),
        "step": int(step[1]) if step else None,
        "weights": weights,
        "adapter": adapter and not any(p.name.startswith("adapter_model") for p in empty),
        "complete": (weights or adapter) and optimizer and "trainer_state.json" in names and not empty,
        "world_size": len(ranks) or None,
        "rng_states": [target.shown(folder / n) for n in sorted(names) if n.startswith("rng_state")],
        "value_head": any(n.startswith("value_head") for n in names),
    }


def _library_folder(path: str) -> dict[str, Any]:
    """`{path, has}` of an entry of LD_LIBRARY_PATH: cuda, cudnn, nccl, compat."""
    has = [
        kind
        for kind, patterns in _LIBRARIES.items()
        if any(glob.glob(os.path.join(glob.escape(path), p)) for p in patterns)
    ]
    compat = "compat" in Path(path).parts and glob.glob(os.path.join(glob.escape(path), "libcuda.so*"))
    return {"path": path, "has": [*has, "compat"] if compat else has}


def _compilers(search: str | None) -> list[dict[str, str]]:
    """Pairs of C and C++ compilers with a version in their names, the newest that nvcc may take (13) first."""
    pairs = ((shutil.which(f"gcc-{n}", path=search), shutil.which(f"g++-{n}", path=search)) for n in range(13, 6, -1))
    return [{"cc": cc, "cxx": cxx} for cc, cxx in pairs if cc and cxx]


def _cuda_homes() -> dict[str, str]:
    """CUDA version -> a toolkit of it under /usr/local that has a compiler."""
    folders = sorted(glob.glob("/usr/local/cuda-*"), reverse=True)
    return {f.rpartition("-")[2]: f for f in folders if os.access(os.path.join(f, "bin", "nvcc"), os.X_OK)}


def _route_interface() -> str | None:
    """The interface of the default route, by the kernel's table (destination and mask zero)."""
    try:
        lines = _ROUTE.read_text().splitlines()[1:]
    except OSError:
        return None
    rows = [line.split() for line in lines]
    return next((row[0] for row in rows if len(row) > 7 and row[1] == row[7] == "00000000"), None)


def _download_running() -> bool:
    """Whether a process that may be looked into holds an unfinished file of a hub open."""
    for link in glob.iglob("/proc/[0-9]*/fd/*"):
        try:
            if os.readlink(link).endswith(".incomplete"):
                return True
        except OSError:  # it ended, or belongs to somebody else
            continue
    return False


def _wandb_stored(environ: Any) -> bool:
    """Whether a login of wandb is kept in its settings or in netrc, beside whatever the environment says."""
    home = settings.home(environ)
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(home / ".config" / "wandb" / "settings", encoding="utf-8")
        netrc = (home / ".netrc").read_text(encoding="utf-8", errors="replace")
    except (OSError, configparser.Error, UnicodeDecodeError):
        netrc = ""
    return parser.has_option("default", "api_key") or "api.wandb.ai" in netrc


JUDGEMENTS: tuple[Judgement, ...] = ()
