"""uv or, where there is none, the target's pip: says what an installation would change, and fills a staging prefix.

Neither function changes the environment: `would_change` is a dry run, `stage` installs into an empty prefix of ours.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from packaging.utils import canonicalize_name

from doctor import redact
from doctor.target import Target
from fixes import indexes
from fixes.errors import Failed, Refused

SECONDS = 3600.0  # an installation on a slow line; torch alone is 2 to 3 GB with its CUDA packages
_LINE = re.compile(r"^ (?P<sign>[-+~]) (?P<name>[\w.-]+)==(?P<version>\S+)(?: \((?P<from>from \S+)\))?$")


class Unsatisfiable(Refused):
    """No set of versions meets the requirements; the sentence is the resolver's."""


def find_uv(environ: Mapping[str, str]) -> str | None:
    """The uv of our own installation, else the one on PATH."""
    try:
        from uv import find_uv_bin

        return str(find_uv_bin())
    except (ImportError, FileNotFoundError):
        return shutil.which("uv", path=environ.get("PATH"))


def would_change(
    target: Target, requirements: list[str], constraints: list[str], reinstall: list[str], offline: bool
) -> dict[str, tuple[str | None, str | None]]:
    """Resolve against what is installed: name → (version now, version then). Raises Unsatisfiable or Failed."""
    with tempfile.TemporaryDirectory(prefix="skyt1-doctor-") as scratch:
        listed = Path(scratch) / "constraints.txt"
        listed.write_text("\n".join(constraints) + "\n", encoding="utf-8")
        if uv := find_uv(target.environ):
            again = [f"--reinstall-package={name}" for name in reinstall]
            options = indexes.uv_options(target.prefix, target.environ)
            command = [uv, "pip", "install", *options, "--dry-run", "--python", str(target.python), "-c", str(listed)]
            command += again
            done = _run([*command, "--", *requirements], target, offline)
            _raise_for(done, "resolve the packages")
            return _changes_of_uv(done.stderr + done.stdout)
        report = Path(scratch) / "report.json"
        command = [str(target.python), "-m", "pip", "install", "--dry-run", "--quiet", "--report", str(report)]
        done = _run([*command, "-c", str(listed), *requirements], target, offline)
        _raise_for(done, "resolve the packages")
        return _changes_of_pip(report)


def stage(
    target: Target,
    pins: list[str],
    prefix: Path,
    offline: bool,
    started: Callable[[int], None] | None = None,
    hashes: Mapping[str, list[str]] | None = None,
) -> None:
    """Install exactly `pins`, without dependencies, into the empty `prefix`, for the target's interpreter.

    With `hashes` (SHA-256 by name, for every pin) no other file is accepted.
    """
    if hashes:
        with tempfile.TemporaryDirectory(prefix="skyt1-doctor-") as scratch:
            listed = Path(scratch) / "requirements.txt"
            listed.write_text(with_hashes(pins, hashes), encoding="utf-8")
            return _stage(target, ["--require-hashes", "-r", str(listed)], pins, prefix, offline, started)
    _stage(target, pins, pins, prefix, offline, started)


def with_hashes(pins: list[str], hashes: Mapping[str, list[str]]) -> str:
    lines = [" ".join([pin, *(f"--hash=sha256:{h}" for h in hashes[pin.split("==")[0]])]) for pin in pins]
    return "\n".join(lines) + "\n"


def _stage(
    target: Target,
    what: list[str],
    pins: list[str],
    prefix: Path,
    offline: bool,
    started: Callable[[int], None] | None,
) -> None:
    if uv := find_uv(target.environ):
        options = indexes.uv_options(target.prefix, target.environ)
        command = [uv, "pip", "install", *options, "--python", str(target.python), "--prefix", str(prefix), "--no-deps"]
        done = _run([*command, *what], target, offline, started)
        if done.returncode and indexes.HASH_MISMATCH in done.stderr:
            done = _run([*command, *what], target, offline, started, main_index=True)
    else:
        command = [str(target.python), "-m", "pip", "install", "--prefix", str(prefix), "--no-deps", "--no-compile"]
        done = _run([*command, "--ignore-installed", "--quiet", *what], target, offline, started)
    _raise_for(done, "install " + ", ".join(redact.text(pin) for pin in pins[:4]) + (" …" if len(pins) > 4 else ""))


def sizes(target: Target, pins: list[str], offline: bool) -> dict[str, int]:
    """Name → bytes of the file that would be downloaded, where the resolver tells; nothing is raised for a silence."""
    uv = find_uv(target.environ)
    if not uv or not pins:
        return {}
    options = indexes.uv_options(target.prefix, target.environ)
    command = [uv, "pip", "compile", *options, "--quiet", "--no-deps", "--no-header", "--format", "pylock.toml"]
    done = _run([*command, "--python", str(target.python), "-"], target, offline, given="\n".join(pins))
    if done.returncode:
        return {}
    found: dict[str, int] = {}
    for block in done.stdout.split("[[packages]]")[1:]:
        name = re.search(r'^name = "([^"]+)"', block, re.MULTILINE)
        wheel = re.search(r"^wheels = .*?size = (\d+)", block, re.MULTILINE | re.DOTALL)
        size = wheel or re.search(r"size = (\d+)", block)
        if name and size:
            found[canonicalize_name(name[1])] = int(size[1])
    return found


def _run(
    command: list[str],
    target: Target,
    offline: bool,
    started: Callable[[int], None] | None = None,
    given: str | None = None,
    main_index: bool = False,
) -> subprocess.CompletedProcess[str]:
    environment = indexes.uv_environment(target.prefix, target.environ, offline)
    if main_index:
        environment = indexes.main_index_only(environment) or environment
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if given is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environment,
            cwd=target.workdir,
            preexec_fn=partial(_die_with, os.getpid()) if sys.platform == "linux" else None,
        )
    except OSError as error:
        raise Failed(f"{Path(command[0]).name} does not start ({error.strerror}); nothing was changed.") from error
    if started:
        started(process.pid)
    try:
        out, err = process.communicate(given, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise Failed(f"The installer did not end within {SECONDS:.0f} s; nothing was changed.") from None
    except BaseException:  # Ctrl-C: the installer must not go on writing while we take back
        process.kill()
        process.communicate()
        raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def _die_with(parent: int) -> None:
    """PR_SET_PDEATHSIG: an installer must not outlive a doctor that was killed, not even while it is being started."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != parent:  # it died before it could be asked for
        os._exit(1)


def _raise_for(done: subprocess.CompletedProcess[str], what: str) -> None:
    if done.returncode == 0:
        return
    said = redact.text((done.stderr + done.stdout).strip())
    if "No solution found" in said or "ResolutionImpossible" in said or "No matching distribution" in said:
        raise Unsatisfiable(_reason(said))
    if "No module named pip" in said:
        raise Failed("Neither uv nor the target's pip can be run; install one of them: pip install uv.")
    raise Failed(f"Could not {what}: {_reason(said)}")


def _reason(said: str) -> str:
    """The resolver's own reason on one line, without its decoration."""
    lines = [re.sub(r"^[\s×╰─▶├│error:]*(cause:)?\s*", "", line) for line in said.splitlines()]
    kept = [
        line for line in lines if line and not line.startswith(("Using Python", "Resolved ", "hint", "No solution"))
    ]
    return " ".join(kept)[:600] or "the installer gave no reason"


def _changes_of_uv(text: str) -> dict[str, tuple[str | None, str | None]]:
    changes: dict[str, tuple[str | None, str | None]] = {}
    for line in text.splitlines():
        if not (found := _LINE.match(line)):
            continue
        name, version = canonicalize_name(found["name"]), found["version"]
        before, after = changes.get(name, (None, None))
        if found["sign"] == "-":
            before = version
        elif found["sign"] == "+":
            after = version
        else:
            before = after = version
        changes[name] = (before, after)
    return changes


def _changes_of_pip(report: Path) -> dict[str, tuple[str | None, str | None]]:
    document = json.loads(report.read_text(encoding="utf-8"))
    return {
        canonicalize_name(item["metadata"]["name"]): (None, item["metadata"]["version"]) for item in document["install"]
    }
