"""A world in which one fix of the knowledge base has something to mend, and what is seen when it is mended.

The files, packages and variables are real and small; what a judgement would publish (`SAMPLES`) is given. `lacking`
looks at the world by other means than the actions use: PyYAML, json, importlib's metadata.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from doctor import launch_profile
from doctor.findings import Finding
from fixes.edit.json_text import split
from knowledge_base import load, offers
from knowledge_base.schema import Action, Cause, Fix, FixClass
from tests.fixes.hub_server import FILES

OLD, NEW = "0.0.1", "9999.0"  # of a stub package before a fix: too old, or too new for a requirement that OLD meets
# What judgements and logs publish, where a plain text of the detail's own name would not do.
SAMPLES: dict[str, Any] = {
    "accumulation_for_batch_1": 24, "accumulation_for_same_batch": 24, "attention_modules": "q_proj,v_proj",
    "auto_values": {"train_batch_size": "auto"}, "columns": {"messages": "conversations"},
    "columns_without": {"system": None}, "cudnn_requirement": "nvidia-cudnn-cu12==9.1.0.70",
    "corrected_values": {"zero_optimization.stage": 2}, "removed_keys": [], "corrects": True,
    "cutoff_suggestion": 512, "deepspeed_requirement": "deepspeed>=0.18.4", "distribution": "jieba>=0.42",
    "ds_config": "ds.json", "deepspeed_config": "ds.json", "encoding": "gb18030", "entry": "sky", "existing_ds_config":
    "other/ds.json", "file": "data/text.json", "fitting_tokenizers": "0.20", "fitting_transformers": "4.45.0",
    "formatting": "alpaca", "gpus": 2, "gradient_accumulation_steps": 6, "gradio_requirement": "gradio>=5.23.2,<=5.50",
    "hub_range": ">=0.30,<1.0", "info_file": "data/dataset_info.json", "installed_version": "1.26.4", "key": "odd_key",
    "key_since": "0.16.9", "llamafactory_requirement": "llamafactory==0.9.4", "llamafactory_with_leaf": "0.9.3",
    "longest": 4096, "max_steps_suggestion": 300, "model_config": "model/config.json", "model_path": "model",
    "adapter_config": "model/adapter_config.json", "nccl_requirement": "nvidia-nccl-cu12==2.21.5", "nearest": "near_key",
    "nproc": 2, "node_rank": 1, "free_port": 29777, "numpy_target": "numpy>=2,<3", "nvidia_requirements":
    ["nvidia-cublas-cu12==12.4.5.8", "nvidia-nvjitlink-cu12==12.4.127"], "other_nccl": ["nvidia-nccl-cu13"],
    "package": "numpy", "package_for_numpy2": "pandas>=2.2.2", "packages": ["pillow", "torchvision"],
    "transformers_before_modes": "transformers==4.44.2", "llamafactory_with_modes": "llamafactory==0.9.1",
    "peft_requirement": "peft>=0.14,<=0.17.1", "peft_target": "peft==0.17.1", "persistence_threshold": 51200,
    "prefetch_bucket": 23592960, "reduce_bucket": 26214400, "renamed_to": "new_key", "repo": "toy/model",
    "requirement": "trl>=0.8.6,<=0.9.6", "rng_state_files": ["saves/rng_state_0.pth", "saves/rng_state_1.pth"],
    "role": "prompt", "save_steps": 100, "save_steps_suggestion": 50, "save_total_limit": 3, "saved_nproc_per_node": 4,
    "shorter_cutoff_len": 8192, "tags": {"role_tag": "from", "content_tag": "value"}, "tokenizer_config":
    "model/tokenizer_config.json", "torch_version": "2.5.1", "torchaudio_version": "2.5.1", "torchvision_version":
    "0.20.1", "torchaudio_requirement": "torchaudio==2.5.1", "torchvision_requirement": "torchvision==0.20.1",
    "transformers_for_model": "4.51.3", "transformers_requirement": "transformers>=4.45,<=4.52.4",
    "transformers_target": "transformers==4.52.4", "tree_requirement": "llamafactory==0.9.1", "val_rows": 100,
    "val_size_suggestion": 0.1,
    "near_ds_config": "other/ds_z2.json", "optimizer_switch": "use_galore", "probable_value": 16384,
    "named_entries": "sky", "whole_columns":
    {"prompt": "instruction", "response": "answer"}, "stem": "recipe2",
    "variable": "NCCL_DEBUG", "default": "WARN", "value_as_type": 1e-5, "version": "1.26.4", "weights_rank": 8, "workers": 4,
    "workers_suggestion": 2, "download_dir": "models/toy", "model_dir": "models/toy", "c_compiler": "/usr/bin/gcc-11",
}  # fmt: skip
PAIRS = [
    (cause, fix)
    for cause in load.all_causes()
    for fix in cause.fixes
    if fix.class_ is not FixClass.MANUAL and any(a.kind != "instruct" for a in fix.action_list())
]


def details(cause: Cause, fix: Fix) -> dict[str, Any]:
    """What a finding would publish so that exactly this fix is offered."""
    names = offers.placeholders([fix.actions]) - offers.ARGUMENTS.keys()
    found = {name: SAMPLES.get(name, f"{name} of it") for name in (*names, *fix.when)}
    if cause.id == "cfg-conflicting-args":
        found["key"] = "odd_key"
    return {name: value for name, value in found.items() if name not in fix.unless}


def filled(cause: Cause, fix: Fix, arguments: dict[str, str]) -> list[Action]:
    values = {**details(cause, fix), **arguments}
    return [Action(a.kind, offers.filled(a.args, values)) for a in fix.action_list()]


def packages_of(action: Action) -> list[str]:
    listed = action.args["packages"]
    return [listed] if isinstance(listed, str) else list(listed)


@dataclass
class Faulty:
    """A workspace for one fix. `environ` is what the user's shell has."""

    workdir: Path
    python: Path
    actions: list[Action]
    environ: dict[str, str] = field(default_factory=dict)

    def prepare(self) -> None:
        """Files as they are before the fix: nothing of what it sets, everything of what it takes away."""
        recipe: dict[str, Any] = {"stage": "sft", "deepspeed": "ds.json", "learning_rate": "1e-5x"}
        for action in self.actions:
            if action.kind == "unset-recipe":
                recipe |= {key: 7 for key in action.args["keys"]}
            elif action.kind == "rename-recipe-key":
                recipe[action.args["old"]] = 7
            elif action.kind == "unset-launch":
                self.environ |= {name: "9" for name in action.args["names"]}
        self.write("recipe.yaml", "# mine\n" + yaml.safe_dump(recipe))
        self.write("ds.json", '{\n  "zero_optimization": {\n    "stage": 3\n  }\n}\n')
        self.write("data/dataset_info.json", '{\n  "sky": {\n    "columns": {"system": "system"}\n  }\n}\n')
        for name in ("config.json", "tokenizer_config.json", "adapter_config.json"):
            self.write(f"model/{name}", '{\n  "quantization_config": {},\n  "kept": [1, 2.50]\n}\n')
        for action in self.actions:
            if action.kind == "repair-json":
                self.write(action.args["file"], '{\n  "a": [1, 2,],\n}\n')
            elif action.kind == "convert-encoding":
                (self.workdir / action.args["file"]).write_bytes('["汉字，训练"]'.encode(action.args["encoding"]))
            elif action.kind == "move-aside":
                for path in _paths(action):
                    self.write(f"{path}/x", "x") if not Path(path).suffix else self.write(path, "x")

    def write(self, name: str, text: str) -> None:
        path = self.workdir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def lacking(self) -> list[str]:
        """What the fix promises and the world does not show."""
        return [said for action in self.actions for said in getattr(self, "_" + action.kind.replace("-", "_"))(action)]

    def _recipe(self) -> dict[str, Any]:
        found: dict[str, Any] = yaml.safe_load((self.workdir / "recipe.yaml").read_text(encoding="utf-8"))
        return found

    def _set_recipe(self, action: Action) -> Iterator[str]:
        have = self._recipe()
        yield from (f"{k} is {have.get(k)!r}" for k, v in action.args["values"].items() if have.get(k) != v)

    def _unset_recipe(self, action: Action) -> Iterator[str]:
        yield from (f"{key} is there" for key in action.args["keys"] if key in self._recipe())

    def _rename_recipe_key(self, action: Action) -> Iterator[str]:
        have = self._recipe()
        if action.args["old"] in have or action.args["new"] not in have:
            yield f"{action.args['old']} is there"

    def _rename_recipe(self, action: Action) -> Iterator[str]:
        if (self.workdir / "recipe.yaml").exists() or not (self.workdir / action.args["to"]).is_file():
            yield "it has its old name"

    def _set_json(self, action: Action) -> Iterator[str]:
        document = json.loads((self.workdir / action.args["file"]).read_text(encoding="utf-8"))
        for dotted, value in action.args["values"].items():
            here: Any = document
            for part in split(dotted):
                here = here.get(part) if isinstance(here, dict) else None
            if here != value:
                yield f"{dotted} is {here!r}"

    def _set_dataset(self, action: Action) -> Iterator[str]:
        document = json.loads((self.workdir / action.args["file"]).read_text(encoding="utf-8"))
        yield from _missing(action.args["values"], document.get(action.args["name"], {}))

    def _repair_json(self, action: Action) -> Iterator[str]:
        try:
            json.loads((self.workdir / action.args["file"]).read_text(encoding="utf-8"))
        except ValueError as error:
            yield str(error)

    def _convert_encoding(self, action: Action) -> Iterator[str]:
        try:
            (self.workdir / action.args["file"]).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            yield str(error)

    def _move_aside(self, action: Action) -> Iterator[str]:
        yield from (f"{path} is there" for path in _paths(action) if (self.workdir / path).exists())

    def _set_launch(self, action: Action) -> Iterator[str]:
        have = launch_profile.merged(self.environ, self.workdir)
        yield from (f"{n} is {have.get(n)}" for n, v in action.args["values"].items() if have.get(n) != str(v))

    def _unset_launch(self, action: Action) -> Iterator[str]:
        have = launch_profile.merged(self.environ, self.workdir)
        yield from (f"{name} is set" for name in action.args["names"] if name in have)

    def _download_model(self, action: Action) -> Iterator[str]:
        folder = self.workdir / action.args["to"]
        wanted = {n: b for n, b in FILES.items() if not n.endswith(".bin")}
        yield from (n for n, b in wanted.items() if not (folder / n).is_file() or (folder / n).read_bytes() != b)

    def _installed(self) -> dict[str, str]:
        site = next(self.python.parent.parent.glob("lib/python3*/site-packages"))
        names = [info.name.removesuffix(".dist-info").rpartition("-") for info in site.glob("*.dist-info")]
        return {canonicalize_name(name): version for name, _, version in names}

    def _install(self, action: Action) -> Iterator[str]:
        have = self._installed()
        for text in packages_of(action):
            wanted = Requirement(text)
            version = have.get(canonicalize_name(wanted.name))
            if version is None or not wanted.specifier.contains(version, prereleases=True):
                yield f"{text}: {version}"
        site = next(self.python.parent.parent.glob("lib/python3*/site-packages"))
        infos = [canonicalize_name(info.name.split("-")[0]) for info in site.glob("*.dist-info")]
        yield from (f"{name} is there twice" for name in there_twice(self.actions) if infos.count(name) > 1)
        yield from (f"{name} is damaged" for name in put_again([action]) if not module(self.python, name).exists())

    def _uninstall(self, action: Action) -> Iterator[str]:
        installs = {
            canonicalize_name(Requirement(t).name) for a in self.actions if a.kind == "install" for t in packages_of(a)
        }
        have = self._installed()
        names = [canonicalize_name(name) for name in packages_of(action)]
        yield from (f"{name} is installed" for name in names if name in have and name not in installs)

    def _instruct(self, action: Action) -> Iterator[str]:
        return iter(())


def _paths(action: Action) -> list[str]:
    given = action.args["path"]
    return [given] if isinstance(given, str) else list(given)


def _missing(wanted: dict[str, Any], have: Any, at: str = "") -> Iterator[str]:
    for key, value in wanted.items():
        there = have.get(key) if isinstance(have, dict) else None
        if isinstance(value, dict):
            yield from _missing(value, there, f"{at}{key}.")
        elif there != value:
            yield f"{at}{key} is {there!r}"


def wheel(folder: Path, name: str, version: str, more: dict[str, str] | None = None) -> Path:
    """A real wheel with one module and `more` files, as `pip wheel` would make it."""
    plain = canonicalize_name(name).replace("-", "_")
    info = f"{plain}-{version}.dist-info"
    contents = {
        f"{plain}_stub.py": f'__version__ = "{version}"\n',
        **(more or {}),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [f"{n},sha256={_digest(t)},{len(t)}" for n, t in contents.items()] + [f"{info}/RECORD,,"]
    path = folder / f"{plain}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inside, text in {**contents, f"{info}/RECORD": "\n".join(record) + "\n"}.items():
            archive.writestr(inside, text)
    return path


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


def a_version(requirement: Requirement) -> str:
    """One that the requirement accepts and that is not OLD."""
    named = [
        spec.version.removesuffix(".*") for spec in requirement.specifier if spec.operator in ("==", ">=", "<=", "~=")
    ]
    tried = [*named, "1.0", "2.0", "0.42", *(f"{n}.99" for n in range(40))]
    return next(v for v in tried if requirement.specifier.contains(v, prereleases=True))


def index(folder: Path) -> dict[str, str]:
    """Wheels for every requirement of the catalogue in `folder`; name → the version that is installed before."""
    before: dict[str, str] = {}
    for cause, fix in PAIRS:
        for action in filled(cause, fix, {}):
            if action.kind in ("install", "uninstall"):
                for text in packages_of(action):
                    wanted = Requirement(text)
                    name = canonicalize_name(wanted.name)
                    if action.kind == "install":
                        wheel(folder, name, a_version(wanted))
                        if wanted.specifier and wanted.specifier.contains(OLD):
                            wheel(folder, name, NEW)
                    if action.kind == "uninstall" or wanted.specifier:
                        before[name] = OLD
    for name in before:
        wheel(folder, name, OLD)
    return before


def too_new(actions: list[Action]) -> list[str]:
    """Packages that a fix takes down: the old stub would do already, so a new one is to be there before."""
    wanted = [Requirement(text) for a in actions if a.kind == "install" for text in packages_of(a)]
    return [canonicalize_name(r.name) for r in wanted if r.specifier and r.specifier.contains(OLD)]


def put_again(actions: list[Action]) -> list[str]:
    """Packages that a fix puts again although their version is right: they are to be damaged before."""
    return [
        canonicalize_name(Requirement(text).name) for a in actions if a.args.get("reinstall") for text in packages_of(a)
    ]


def there_twice(actions: list[Action]) -> list[str]:
    """Packages that a fix takes out and installs: they are to be recorded in two versions before."""
    out = {canonicalize_name(name) for a in actions if a.kind == "uninstall" for name in packages_of(a)}
    back = {
        canonicalize_name(Requirement(text).name) for a in actions if a.kind == "install" for text in packages_of(a)
    }
    return sorted(out & back)


def record(python: Path, name: str, version: str) -> Path:
    site = next(python.parent.parent.glob("lib/python3*/site-packages"))
    return site / f"{name.replace('-', '_')}-{version}.dist-info"


def module(python: Path, name: str) -> Path:
    """The one file of a stub package."""
    site = next(python.parent.parent.glob("lib/python3*/site-packages"))
    return site / f"{name.replace('-', '_')}_stub.py"


def finding(cause: Cause, fix: Fix) -> Finding:
    return Finding(cause.id, (), details=details(cause, fix))


def shell(links: Path, hub: str) -> dict[str, str]:
    """The environment of the doctor in these tests: wheels from a folder, models from a loopback hub."""
    hidden = ("HF_", "UV_", "PIP_", "MODELSCOPE", "USE_MODELSCOPE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    return {**kept, "UV_NO_INDEX": "1", "UV_FIND_LINKS": str(links), "UV_NO_CONFIG": "1", "HF_ENDPOINT": hub}
