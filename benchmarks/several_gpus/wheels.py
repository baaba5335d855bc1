"""The packages of the measurement as wheels, fetched where there is a network: `python wheels.py FOLDER [PYTHON]`.

Writes FOLDER/doctor, FOLDER/new, FOLDER/old and FOLDER/audio for Linux on x86-64 and PYTHON (3.12). torch and what it
needs are not among them: the machine that measures has them. DeepSpeed has no wheels, so it is built here without its
operators.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# Without them no resolver can exchange DeepSpeed, and the fix would be another one.
DEEPSPEED_NEEDS = ("einops", "msgpack", "ninja", "nvidia-ml-py", "psutil", "py-cpuinfo")
# What each environment holds beside torch. `old`: the published recipe's stack, in which ranks assert under ZeRO-2 and 3.
PACKAGES: dict[str, tuple[str, ...]] = {
    "doctor": (
        "click", "rich", "msgspec", "PyYAML", "httpx", "httpcore", "h11", "anyio", "idna", "sniffio", "platformdirs",
        "filelock", "tenacity", "psutil", "nvidia-ml-py", "jinja2", "markupsafe", "py-spy", "packaging", "certifi",
        "huggingface_hub==0.36.0", "google-re2", "hyperscan", "uv", "pygments", "markdown-it-py", "mdurl", "requests",
        "urllib3", "charset-normalizer", "tqdm", "fsspec", "typing-extensions",
    ),
    "new": (
        "llamafactory==0.9.5", "transformers==5.6.0", "tokenizers==0.22.2", "datasets==4.0.0", "accelerate==1.11.0",
        "peft==0.18.1", "trl==0.24.0", "dill==0.3.8", "multiprocess==0.70.16", "omegaconf==2.3.0",
        "pydantic==2.12.5", "pydantic-core==2.41.5", "typing-inspection", "annotated-types", "hjson", "fire", "termcolor",
        "tyro==0.8.14", "shtab", "docstring-parser", *DEEPSPEED_NEEDS,
    ),
    "old": (
        "llamafactory==0.9.1", "transformers==4.46.1", "tokenizers==0.20.3", "huggingface_hub==0.36.0", "datasets==3.1.0",
        "fsspec==2024.9.0", "accelerate==1.0.1", "peft==0.12.0", "trl==0.9.6", "dill==0.3.8", "multiprocess==0.70.16",
        "pydantic==2.10.6", "pydantic-core==2.27.2", "annotated-types", "hjson", "fire", "termcolor", "tyro==0.8.14",
        "shtab", "docstring-parser", "sentencepiece", "tiktoken", *DEEPSPEED_NEEDS,
    ),
    # Built for CUDA 12.8 and, as torch 2.11 is, for 13.0.
    "audio": ("torchaudio==2.8.0", "torchaudio==2.11.0"),
}  # fmt: skip
BUILT = {
    "new": ("deepspeed==0.18.4", "antlr4-python3-runtime==4.9.3"),
    "old": ("deepspeed==0.16.2", "deepspeed==0.15.4"),
}
SYSTEMS = (17, 24, 27, 28, 31, 34, 35, 39)  # versions of glibc that wheels are named after


def main(folder: Path, python: str = "3.12") -> None:
    pip = [sys.executable, "-m", "pip"]
    systems = [f"--platform=manylinux_2_{version}_x86_64" for version in SYSTEMS]
    systems += ["--platform=manylinux2014_x86_64", "--platform=manylinux1_x86_64"]
    only = ["--no-deps", "--only-binary=:all:", f"--python-version={python}", "--implementation=cp", *systems]
    for name, packages in PACKAGES.items():
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        for wanted in [[p] for p in packages] if name == "audio" else [packages]:  # two of one name are two downloads
            subprocess.run([*pip, "download", "-q", *only, "-d", str(place), *wanted], check=True)
        for package in BUILT.get(name, ()):
            build = {**os.environ, "DS_BUILD_OPS": "0"}
            subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", str(place), package], check=True, env=build)
        size = sum(path.stat().st_size for path in place.iterdir())
        print(f"{name}: {len(list(place.iterdir()))} wheels, {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:3])
