"""A conda environment without conda's servers: packages built here, installed from a local channel by conda's Rust library.

python is this interpreter's own files; the noarch packages are wheels from the index, laid out as conda-build lays them
out (INSTALLER says conda). `py-rattler` is installed by uv into an environment of its own and solves, links and records
(conda-meta) as conda, mamba and pixi do.
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path
from typing import Any

from tests.fixes.worlds import install, make_environment, uv

VERSION = sysconfig.get_python_version()
LEFT_OUT = {"site-packages", "test", "tests", "idlelib", "lib2to3", "turtledemo", "__pycache__", "ensurepip"}
INSTALL = """
import asyncio, os, sys
from pathlib import Path
from rattler import Channel, install, solve
from rattler.index import index_fs
channel, prefix, *specs = sys.argv[1:]
async def main():
    await index_fs(channel)
    records = await solve([Channel(Path(channel).as_uri())], specs, platforms=["linux-64", "noarch"])
    await install(records, prefix, show_progress=False)
asyncio.run(main())
os._exit(0)  # its threads may outlive the interpreter
"""


def python_package(channel: Path) -> None:
    """This interpreter's own files as the conda package python."""
    base, stdlib = Path(sys.base_prefix), Path(sysconfig.get_path("stdlib"))
    version = ".".join(str(part) for part in sys.version_info[:3])
    files = {f"bin/python{VERSION}": Path(sys.base_exec_prefix) / "bin" / f"python{VERSION}"}
    files |= {
        f"lib/{path.name}": path for path in (base / "lib").glob(f"libpython{VERSION}*.so*") if not path.is_symlink()
    }
    for path in stdlib.rglob("*"):
        inside = path.relative_to(stdlib)
        if path.is_file() and not LEFT_OUT & set(inside.parts) and not inside.parts[0].startswith("config-"):
            files[f"lib/python{VERSION}/{inside}"] = path
    contents = {name: path.read_bytes() for name, path in files.items()}
    contents[f"lib/python{VERSION}/site-packages/README.txt"] = b"packages"
    links = {"bin/python": f"python{VERSION}", "bin/python3": f"python{VERSION}"}
    index = {"name": "python", "version": version, "build": "0_cpython", "build_number": 0, "depends": []}
    _write(
        channel / "linux-64", {**index, "subdir": "linux-64", "arch": "x86_64", "platform": "linux"}, contents, links
    )


def noarch_package(channel: Path, wheel: Path) -> None:
    """A pure wheel as a conda package of the kind noarch: python."""
    with zipfile.ZipFile(wheel) as archive:
        contents = {
            f"site-packages/{name}": archive.read(name) for name in archive.namelist() if not name.endswith("/")
        }
    info = next(name.rpartition("/")[0] for name in contents if name.endswith(".dist-info/METADATA"))
    contents[f"{info}/INSTALLER"] = b"conda"
    name, version, *_ = wheel.name.split("-")
    index = {"name": name, "version": version, "build": "pyhd_0", "build_number": 0, "depends": ["python >=3.8"]}
    link = {"noarch": {"type": "python"}, "package_metadata_version": 1}
    _write(channel / "noarch", {**index, "subdir": "noarch", "noarch": "python"}, contents, {}, link)


def _write(
    folder: Path, index: dict[str, Any], contents: dict[str, bytes], links: dict[str, str], link: object = None
) -> None:
    paths = [
        {"_path": n, "path_type": "hardlink", "sha256": hashlib.sha256(b).hexdigest(), "size_in_bytes": len(b)}
        for n, b in contents.items()
    ]
    empty = hashlib.sha256(b"").hexdigest()
    paths += [{"_path": n, "path_type": "softlink", "sha256": empty, "size_in_bytes": 0} for n in links]
    about = {
        "info/index.json": {**index, "timestamp": 1700000000000},
        "info/paths.json": {"paths": paths, "paths_version": 1},
    }
    if link:
        about["info/link.json"] = link
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"{index['name']}-{index['version']}-{index['build']}.tar.bz2"
    with tarfile.open(place, "w:bz2", compresslevel=1) as archive:
        for name, data in {**{n: json.dumps(d).encode() for n, d in about.items()}, **contents}.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755 if name.startswith("bin/") else 0o644
            archive.addfile(entry, io.BytesIO(data))
        for name, target in links.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)


def make(folder: Path, *packages: str) -> Path:
    """A conda environment with python and `packages` (name==version, pure); its interpreter."""
    channel, wheels, prefix = folder / "channel", folder / "wheels", folder / "conda env"
    python_package(channel)
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", str(wheels)]
    subprocess.run([*command, *packages], check=True)
    for wheel in wheels.glob("*.whl"):
        noarch_package(channel, wheel)
    tool = make_environment(folder / "tool")
    install(tool, "py-rattler>=0.28,<1")
    specs = [package.replace("==", " ==") for package in packages]
    version = ".".join(str(part) for part in sys.version_info[:3])
    subprocess.run([str(tool), "-c", INSTALL, str(channel), str(prefix), f"python =={version}", *specs], check=True)
    return prefix / "bin" / "python"


def differing(prefix: Path) -> list[str]:
    """What conda's own records say of the environment that is not so: files that are gone or have other content."""
    wrong = []
    for record in sorted((prefix / "conda-meta").glob("*.json")):
        for entry in json.loads(record.read_text())["paths_data"]["paths"]:
            path = prefix / entry["_path"]
            if not path.exists():
                wrong.append(f"{record.stem}: {entry['_path']} is gone")
            elif entry["path_type"] == "hardlink" and path.suffix != ".pyc":
                said = entry.get("sha256_in_prefix") or entry.get("sha256")
                if said and said != hashlib.sha256(path.read_bytes()).hexdigest():
                    wrong.append(f"{record.stem}: {entry['_path']} differs")
    return wrong


def freeze(python: Path) -> str:
    command = [uv(), "pip", "freeze", "--python", str(python)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
