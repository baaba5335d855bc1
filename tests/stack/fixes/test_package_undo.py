"""Undo of packages on whole training environments: an editable LLaMA-Factory, a wheel from a URL, a local wheel.

One fix upgrades, downgrades, adds and removes; afterwards what `pip freeze` says, every file, every RECORD and the
imports are as before. `make reproduce` runs it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
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


def source_of(requirement: str, folder: Path) -> Path:
    """The unpacked source archive of a release, as a clone is."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "llamafactory"]
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


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a folder on a loopback server."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@dataclass
class Undone:
    """What was before the fix, while it stood, and after it was taken back."""

    environment: Environment
    files: tuple[dict[str, object], dict[str, object]]
    freezes: tuple[list[str], list[str], list[str]]


@pytest.fixture(scope="module", params=sorted(CHANGES))
def undone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Undone:
    stack, root = request.param, tmp_path_factory.mktemp("undone")
    environment = Environment(root / "env", *PACKAGES[stack])
    source, links, work = root / "clone", root / "served", root / "work"
    for folder in (source, links, work):
        folder.mkdir()
    environment.install("--no-deps", "-e", str(source_of(PACKAGES[stack][0], source)))
    remote, local = every_fix.wheel(links, "url-stub", "1.0"), every_fix.wheel(root, "local-stub", "1.0")
    with served(links) as address:
        environment.install(f"url-stub @ {address}/{remote.name}", str(local))
    before, frozen = files_of(environment.root), environment.freeze()
    (work / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load, "CAUSES", root / "causes")
        world = World(work, environment.python, root / "causes")
        world.cause("change", fix("them", {"kind": "install", "packages": CHANGES[stack]}))
        world.cause("remove", fix("these", {"kind": "uninstall", "packages": REMOVED}))
        applied = world.apply(yes=True)
        assert {o.outcome for o in applied.outcomes} == {"verified"}, applied.outcomes
        changed = environment.freeze()
        assert history.undo(work).status == "undone"
    load.paths.cache_clear()
    load.cause.cache_clear()
    return Undone(environment, (before, files_of(environment.root)), (frozen, changed, environment.freeze()))


def test_every_file_and_the_package_set_come_back(undone: Undone) -> None:
    before, changed, after = undone.freezes
    assert any(line.startswith("-e file://") for line in before)
    assert len(set(changed) ^ set(before)) >= 7  # two versions, one added, three removed
    assert not any(line.startswith(tuple(REMOVED)) for line in changed)
    assert after == before
    then, now = undone.files
    assert sorted(k for k in {*then, *now} if then.get(k) != now.get(k)) == []
    print(f"{len(before)} packages, {len(then)} files as before")


def test_the_imports_work_afterwards(undone: Undone) -> None:
    done = undone.environment.run(str(undone.environment.python), "-c", IMPORTS, cwd=undone.environment.root)
    assert done.returncode == 0, done.stdout[-2000:]
    versions = dict(line.split("==") for line in undone.freezes[0] if "==" in line)
    assert done.stdout.splitlines()[-1].split("+")[0].split()[0] == versions["torch"]
    assert done.stdout.split()[-1] == versions["transformers"]
