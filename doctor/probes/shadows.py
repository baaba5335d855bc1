"""Files of the user's own on PYTHONPATH that are imported instead of the packages of the same name."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from doctor.facts import Facts
from doctor.findings import Finding, Severity, found
from doctor.target import Target

ID = "shadows"
AFTER: tuple[str, ...] = ()

_found = partial(found, ID)

# What a training run imports by its first name; a clone of one of them may stand on PYTHONPATH on purpose.
PACKAGES = (
    "accelerate", "datasets", "deepspeed", "evaluate", "fsspec", "huggingface_hub", "multiprocess", "numpy", "packaging",
    "pandas", "peft", "pyarrow", "requests", "safetensors", "tokenizers", "torch", "tqdm", "transformers", "trl", "wandb",
    "yaml", "llamafactory", "typing_extensions", "pydantic", "httpx", "gradio", "jinja2", "regex", "filelock", "psutil",
    "torchvision", "matplotlib", "sentencepiece", "tiktoken", "einops", "fire", "omegaconf",
)  # fmt: skip
_FEWEST = 3  # Python files of a package that may be a clone of the real one


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    """`shadows.found`: [{path, name, package, stub}], `package`: a folder with __init__.py; `stub`: with little more."""
    listed: list[dict[str, Any]] = []
    names = {*PACKAGES, *sys.stdlib_module_names}
    named = target.environ.get("PYTHONPATH", "")
    for given in named.split(os.pathsep) if named else ():  # an empty name between two colons is the working directory
        folder = target.workdir / given
        if not folder.is_dir():
            continue
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            name = entry.name.removesuffix(".py")
            if name not in names or name.startswith("_"):
                continue
            package = os.path.isfile(Path(entry.path) / "__init__.py")
            if package or (entry.name.endswith(".py") and entry.is_file()):
                stub = package and len(list(islice(Path(entry.path).glob("*.py"), _FEWEST))) < _FEWEST
                told = {"path": target.shown(Path(entry.path)), "name": name, "package": package, "stub": stub}
                listed.append(told)
    return {"shadows.found": listed}


def shadowed(facts: Facts) -> Iterator[Finding]:
    for shadow in facts["shadows.found"]:
        what = f"{shadow['path']} is on PYTHONPATH and is imported instead of {shadow['name']}"
        severity = Severity.WARNING if shadow["package"] and not shadow.get("stub") else None
        details = {"path": shadow["path"], "module": shadow["name"]}
        yield _found("pkg-shadowed-module", what, shadow["path"], severity, **details)


JUDGEMENTS = (shadowed,)
