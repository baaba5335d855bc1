"""Target: what is examined — the interpreter that will train, the working directory, the recipe, the launch variables.

The interpreter is asked once, in a child process, for its version and paths; nothing of its packages is imported.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from doctor import launch_profile
from doctor.deadline import within
from doctor.errors import BadInput

DEFAULT_RECIPE = Path("examples") / "train_full" / "qwen2_full_sft.yaml"
# With vfork the whole process would stand still while a child starts: for ever, where its file lies on a dead mount.
subprocess._USE_VFORK = False  # type: ignore[attr-defined]

START_SECONDS = 10.0  # a cold interpreter on a network disk; a healthy one answers in 0.05

_ASK = """
import json, sys, sysconfig, site
print(json.dumps({"version": "%d.%d.%d" % sys.version_info[:3], "prefix": sys.prefix, "base_prefix": sys.base_prefix,
 "executable": sys.executable, "site": [p for p in sys.path if p.endswith("-packages")],
 "path": [p for p in sys.path if p], "scripts": sysconfig.get_path("scripts"), "include": sysconfig.get_path("include"),
 "user_site": bool(site.ENABLE_USER_SITE) and site.getusersitepackages()}))
"""


class Interpreter(msgspec.Struct, frozen=True):
    """What an interpreter says of itself. `site` are the site-packages directories in sys.path order."""

    version: str
    prefix: str
    base_prefix: str
    executable: str
    site: tuple[str, ...]
    path: tuple[str, ...]
    scripts: str
    include: str
    user_site: str | bool


class Target(msgspec.Struct, frozen=True):
    """Everything that the probes need to know where to look. `environ` is the launch environment (profile merged in)."""

    python: Path
    interpreter: Interpreter
    chosen_because: str
    workdir: Path
    recipe: Path
    environ: dict[str, str]
    offline: bool = False
    deep: bool = False
    overrides: dict[str, str] = {}  # KEY=VALUE after the recipe, merged over the recipe's values
    launches: bool = False  # the recipe is about to be trained, not only looked at
    budget: float = 5.0  # seconds that the examination may take
    tell: Callable[[str, int, int], None] | None = None  # is told how far a long reading is: what, bytes, of bytes

    @property
    def version(self) -> str:
        return self.interpreter.version

    @property
    def prefix(self) -> Path:
        return Path(self.interpreter.prefix)

    @property
    def scripts(self) -> Path:
        return Path(self.interpreter.scripts)

    @property
    def site(self) -> tuple[Path, ...]:
        return tuple(Path(p) for p in self.interpreter.site)

    def shown(self, path: Path) -> str:
        """A path as the user knows it: relative to the working directory where it lies inside."""
        try:
            return str(path.relative_to(self.workdir))
        except ValueError:
            return str(path)


def ask(python: Path, environ: Mapping[str, str], seconds: float = START_SECONDS) -> Interpreter:
    """Start `python` once. Raises BadInput when it does not exist, does not start or does not answer in time."""
    try:
        answer = within(
            seconds + 0.5,  # for a child that does not even die
            lambda: subprocess.run(
                [str(python), "-c", _ASK],
                capture_output=True,
                timeout=seconds,
                cwd="/",
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                check=True,
            ),
        )
        return msgspec.convert(json.loads(answer.stdout.splitlines()[-1]), Interpreter, strict=False)
    except FileNotFoundError:
        raise BadInput(
            f"The target python {python} does not exist; give the interpreter that trains with --python."
        ) from None
    except (subprocess.TimeoutExpired, TimeoutError):
        raise BadInput(
            f"The target python {python} did not start within {seconds:.0f} s; try another with --python."
        ) from None
    except subprocess.CalledProcessError as error:
        why = (error.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {error.returncode}"])[-1]
        raise BadInput(
            f"The target python {python} does not start ({why}); repair it or give another with --python."
        ) from None
    except (OSError, ValueError, IndexError, msgspec.ValidationError) as error:
        raise BadInput(
            f"{python} is not a Python interpreter that starts ({error}); give another with --python."
        ) from None


def _python_in(prefix: Path) -> Path | None:
    candidates = (prefix / "bin" / "python", prefix / "bin" / "python3", prefix / "python.exe")
    return next((path for path in candidates if path.exists()), None)


def shebang(script: Path) -> Path | None:
    """The interpreter that a console script starts, also through the `/bin/sh … exec` form used for long paths."""
    try:
        head = script.open("rb").read(1024)
    except OSError:
        return None
    lines = head.decode("utf-8", errors="replace").splitlines()
    if not lines or not lines[0].startswith("#!"):
        return None
    words = lines[0][2:].split()
    if words and words[0].endswith("/sh") and len(lines) > 1 and lines[1].startswith("'''exec'"):
        words = shlex.split(lines[1])[1:2]  # the trick of installers for a path too long for a kernel
    if not words:
        return None
    if words[0].endswith("/env"):
        named = next((w for w in words[1:] if not w.startswith("-")), "python3")
        return Path(found) if (found := shutil.which(named)) else None
    return Path(words[0])


def _conda_prefix(name: str, environ: Mapping[str, str]) -> Path | None:
    """The prefix of a conda environment by name, without running conda (which takes a second)."""
    roots = [Path(environ[v]) for v in ("CONDA_PREFIX", "MAMBA_ROOT_PREFIX") if v in environ]
    if "CONDA_EXE" in environ:
        roots.append(Path(environ["CONDA_EXE"]).parent.parent)
    homes = [Path.home() / d for d in ("miniconda3", "anaconda3", "miniforge3", "mambaforge", "micromamba", ".conda")]
    for root in [*roots, *homes, Path("/opt/conda")]:
        for candidate in (root / "envs" / name, root.parent / name if root.parent.name == "envs" else root / name):
            if (candidate / "conda-meta").is_dir():
                return candidate
    try:
        listed = (Path.home() / ".conda" / "environments.txt").read_text().splitlines()
    except OSError:
        return None
    return next((Path(p) for p in listed if Path(p).name == name and Path(p).is_dir()), None)


def choose_python(python: str | None, env: str | None, workdir: Path, environ: Mapping[str, str]) -> tuple[Path, str]:
    """The interpreter to examine and the reason, in the order of the user's word, what is active, what is on PATH."""
    if python:
        on_path = shutil.which(python, path=environ.get("PATH")) if os.sep not in python else python
        return Path(on_path or python).absolute(), "given with --python"
    if env:
        prefix = Path(env) if os.sep in env or (Path(env) / "bin").is_dir() else _conda_prefix(env, environ)
        inside = _python_in(prefix.absolute()) if prefix else None
        if inside is None:
            raise BadInput(f"No conda environment or venv called {env} was found; list them with `conda env list`.")
        return inside, f"environment {env}, given with --env"
    active = [
        (found, f"active {kind} {environ[variable]}")
        for variable, kind in (("VIRTUAL_ENV", "venv"), ("CONDA_PREFIX", "conda environment"))
        if environ.get(variable) and (found := _python_in(Path(environ[variable])))
    ]
    for found, why in active:
        if (found.parent / "llamafactory-cli").exists():
            return found, why
    cli = shutil.which("llamafactory-cli", path=environ.get("PATH"))
    if cli and (behind := shebang(Path(cli))) and behind.exists():
        return behind, f"the interpreter behind {cli}"
    if active:
        return active[0]
    if inside := _python_in(workdir / ".venv"):
        return inside, "the .venv of the working directory"
    default = shutil.which("python", path=environ.get("PATH")) or shutil.which("python3", path=environ.get("PATH"))
    return Path(default or sys.executable), "no environment is active: the python on PATH"


def find(
    recipe: str | None = None,
    workdir: str | None = None,
    python: str | None = None,
    env: str | None = None,
    offline: bool = False,
    deep: bool = False,
    overrides: Mapping[str, str] | None = None,
    launches: bool = False,
    budget: float = 5.0,
) -> Target:
    """The target of a command line. Raises BadInput. RECIPE may be relative to the working directory or to the shell's.

    `overrides` are merged over the recipe's values; `launches` says that `train` asks, which launches what it finds.
    """
    here = Path(workdir).absolute() if workdir else Path.cwd()
    if not here.is_dir():
        raise BadInput(
            f"The working directory {here} does not exist; give the one that training starts in with --workdir."
        )
    given = Path(recipe) if recipe else DEFAULT_RECIPE
    path = here / given
    try:
        if not path.exists() and recipe and given.exists():
            path = given.absolute()
    except PermissionError:
        raise BadInput(f"{here} may not be looked into (permission denied); make it readable.") from None
    environ = launch_profile.merged(os.environ, here)
    chosen, why = choose_python(python, env, here, environ)
    return Target(
        python=chosen,
        interpreter=ask(chosen, environ),
        chosen_because=why,
        workdir=here,
        recipe=path,
        environ=environ,
        offline=offline,
        deep=deep,
        overrides=dict(overrides or {}),
        launches=launches,
        budget=budget,
    )
