"""Undo of packages on whole training environments: an editable LLaMA-Factory, a wheel from a URL, a local wheel.

One fix upgrades, downgrades, adds and removes; afterwards what `pip freeze` says, every file, every RECORD and the
imports are as before. `make reproduce` runs it; results.json beside it holds the outcome of one run.
"""

from __future__ import annotations

import functools
import hashlib
import json
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fixes import history
from knowledge_base import load
from tests.fixes import every_fix
from tests.fixes.worlds import RECIPE, World, fix
from tests.stack.environments import Environment
from tests.stack.reproductions.stacks import PACKAGES

pytestmark = [pytest.mark.stack, pytest.mark.timeout(1800)]
IMPORTS = "import torch, transformers, deepspeed, llamafactory; print(torch.__version__, transformers.__version__)"
# Down within LLaMA-Factory's range, up, added; the removed ones are those of no index.
CHANGES = {
    "sky-t1": ["peft==0.11.1", "idna==3.10", "iniconfig==2.0.0"],
    "current": ["peft==0.18.0", "idna==3.10", "iniconfig==2.0.0"],
}
REMOVED = ["llamafactory", "url-stub", "local-stub"]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and its address on a loopback server."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def source_of(requirement: str, folder: Path) -> Path:
    """The unpacked source archive of a release, as a clone is."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "--no-binary",
        ":all:",
        "--no-build-isolation",
    ]
    subprocess.run([*command, "-d", str(folder), requirement], check=True)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    return next(path for path in folder.iterdir() if path.is_dir())


def files_of(prefix: Path) -> dict[str, object]:
    """Size and time of every file, content of every RECORD; bytecode and our own state left out."""
    found: dict[str, object] = {}
    for path in sorted(prefix.rglob("*")):
        if ".skyt1-doctor" in path.parts or "__pycache__" in path.parts or path.is_dir():
            continue
        status = path.lstat()
        record = path.name in ("RECORD", "direct_url.json", "INSTALLER")
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if record else None
        found[str(path)] = (status.st_size, status.st_mtime_ns, digest)
    return found


@pytest.mark.parametrize("stack", ["sky-t1", "current"])
def test_everything_comes_back(
    stack: str, served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = Environment(tmp_path / "env", *PACKAGES[stack])
    source = tmp_path / "clone"
    source.mkdir()
    environment.install("--no-deps", "-e", str(source_of(PACKAGES[stack][0], source)))
    remote = every_fix.wheel(served[0], "url-stub", "1.0")
    local = every_fix.wheel(tmp_path, "local-stub", "1.0")
    environment.install(f"url-stub @ {served[1]}/{remote.name}", str(local))
    before, frozen = files_of(environment.root), environment.freeze()
    imported = environment.run(str(environment.python), "-c", IMPORTS, cwd=tmp_path).stdout
    assert any(line.startswith("-e file://") for line in frozen)

    work = tmp_path / "work"
    work.mkdir()
    (work / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    monkeypatch.setattr(load, "CAUSES", tmp_path / "causes")
    load.paths.cache_clear()
    world = World(work, environment.python, tmp_path / "causes")
    world.cause("change", fix("them", {"kind": "install", "packages": CHANGES[stack]}))
    world.cause("remove", fix("these", {"kind": "uninstall", "packages": REMOVED}))
    applied = world.apply(yes=True)
    assert {o.outcome for o in applied.outcomes} == {"verified"}, applied.outcomes
    changed = environment.freeze()
    assert set(CHANGES[stack]) <= set(changed)
    assert not any(name in line for line in changed for name in REMOVED)

    assert history.undo(work).status == "undone"
    after = files_of(environment.root)
    assert sorted(k for k in {*before, *after} if before.get(k) != after.get(k)) == []
    assert environment.freeze() == frozen
    assert environment.run(str(environment.python), "-c", IMPORTS, cwd=tmp_path).stdout == imported
    print(
        json.dumps(
            {"stack": stack, "packages": len(frozen), "files": len(before), "imports": imported.splitlines()[-1]}
        )
    )
    load.paths.cache_clear()
    load.cause.cache_clear()
