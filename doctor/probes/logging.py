"""Where training reports to: is the logger of `report_to` installed, and can it log in without asking."""

from __future__ import annotations

import configparser
import netrc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from doctor.facts import Facts, Unknown
from doctor.findings import Evidence, Finding, Severity
from doctor.hub.settings import home
from doctor.target import Target

ID = "logging"
AFTER: tuple[str, ...] = ("recipe", "packages")

# report_to name -> the package that its callback imports (transformers/integrations/integration_utils.py).
PACKAGES = {
    "wandb": "wandb",
    "tensorboard": "tensorboard",
    "swanlab": "swanlab",
    "mlflow": "mlflow",
    "trackio": "trackio",
    "comet_ml": "comet-ml",
    "neptune": "neptune",
    "clearml": "clearml",
    "dvclive": "dvclive",
    "codecarbon": "codecarbon",
}
_TRUE = ("1", "ON", "YES", "TRUE")
_WANDB = "https://api.wandb.ai"


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    environ = target.environ
    asked = facts["recipe.values"].get("report_to")
    found: dict[str, Any] = {
        "logging.report_to": _names(asked),
        "logging.wandb_mode": environ.get("WANDB_MODE"),
        "logging.wandb_disabled": environ.get("WANDB_DISABLED", "").upper() in _TRUE,
    }
    try:
        found["logging.wandb_login"] = _wandb_key(target)
    except OSError as error:
        found["logging.wandb_login"] = Unknown(f"the file with the key cannot be read ({error.strerror})")
    found["logging.swanlab_login"] = "SWANLAB_API_KEY" if environ.get("SWANLAB_API_KEY") else _swanlab_file(target)
    found["logging.wandb_answer"] = _wandb_answer(target, facts.merged(found))
    return found


def _wandb_answer(target: Target, facts: Facts) -> dict[str, Any] | None:
    """What wandb's server said, where this run will ask it: {url, stage, error}; None where it is not asked here."""
    if (
        target.offline
        or not facts.get("packages.versions")
        or facts["logging.wandb_disabled"]
        or _silent(facts)
        or "wandb" not in _wanted(facts)
    ):
        return None
    if "wandb" not in facts["packages.versions"] or facts.get("logging.wandb_login") is None:
        return None
    from doctor.hub import connection, settings  # brings ssl and http.client, which most checks do not need

    url = target.environ.get("WANDB_BASE_URL") or _WANDB
    proxy, ca = settings.proxy_for(url, target.environ), settings.ca_bundle(target.environ, requests_client=True)
    answer = connection.ask(url, proxy=proxy, ca=ca)
    return {"url": url, "stage": answer.stage, "error": answer.error}


def _names(value: Any) -> list[str] | None:
    """The loggers of report_to; None where it is not set (transformers 4 then takes every one that is installed)."""
    if value is None:
        return None
    names = value if isinstance(value, list) else [value]
    return [str(name).strip() for name in names if str(name).strip()]


def _wandb_key(target: Target) -> str | None:
    """Where a wandb key stands, in wandb's own order: environment, settings file, netrc. Never the key."""
    environ = target.environ
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"):
        if environ.get(name, "").strip():
            return name
    folder = environ.get("WANDB_CONFIG_DIR")
    settings = Path(folder) if folder else home(environ) / ".config" / "wandb"
    for file in (settings / "settings", target.workdir / "wandb" / "settings"):
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(file, encoding="utf-8")
        except configparser.Error:
            continue  # wandb ignores a settings file that it cannot parse, and looks further
        if parser.has_option("default", "api_key"):
            return str(file)
    host = urlsplit(environ.get("WANDB_BASE_URL") or _WANDB).hostname or ""
    given = environ.get("NETRC")
    for file in [Path(given)] if given else [home(environ) / ".netrc", home(environ) / "_netrc"]:
        if os.path.isfile(file):
            try:
                login = netrc.netrc(str(file)).authenticators(host)
            except (netrc.NetrcParseError, UnicodeDecodeError):
                continue
            if login and login[2]:
                return str(file)
    return None


def _swanlab_file(target: Target) -> str | None:
    """`swanlab login` writes a netrc file into its own folder (swanlab: SWANLAB_SAVE_DIR, ~/.swanlab/.netrc)."""
    folder = target.environ.get("SWANLAB_SAVE_DIR")
    file = (Path(folder) if folder else home(target.environ) / ".swanlab") / ".netrc"
    return str(file) if os.path.isfile(file) else None


def _found(facts: Facts, cause: str, what: str, severity: Severity | None = None, **details: Any) -> Finding:
    line = facts.get("recipe.lines", {}).get("report_to")
    where = f"{facts['recipe.path']}:{line}" if line else facts["recipe.path"]
    return Finding(cause, (Evidence(what, where),), severity=severity, source=f"probe:{ID}", details=details)


def _wanted(facts: Facts) -> list[str]:
    """The loggers that will be built, as transformers expands report_to."""
    names, installed = facts["logging.report_to"], facts["packages.versions"]
    if names is None:
        major = installed.get("transformers", "5").split(".")[0]
        names = ["all"] if major.isdigit() and int(major) < 5 else ["none"]
    if "all" in names:
        return [name for name, package in PACKAGES.items() if package in installed]
    return [name for name in names if name != "none"]


def _silent(facts: Facts) -> bool:
    return (facts["logging.wandb_mode"] or "online").lower() in ("offline", "dryrun", "disabled")


def wandb(facts: Facts) -> Iterator[Finding]:
    """Without a key wandb asks at a terminal that ranks do not have; one that is not installed stops the run.

    Where both are true both are said, and nothing is to be installed, which alone would not help.
    """
    if "wandb" not in _wanted(facts):
        return
    explicit = "wandb" in (facts["logging.report_to"] or ())
    installed, disabled = "wandb" in facts["packages.versions"], facts["logging.wandb_disabled"]
    without_key = facts["logging.wandb_login"] is None and not _silent(facts)
    by = "report_to names wandb" if explicit else "report_to takes every installed logger, wandb among them"
    if disabled:
        if explicit:
            what = (
                "report_to names wandb and WANDB_DISABLED is set, which makes it count as not installed: the run stops"
            )
            yield _found(facts, "log-wandb-not-installed", what, disabled=True)
    elif without_key:
        what = f"{by}; no key is set (WANDB_API_KEY, wandb's settings, netrc)"
        what += "" if installed else ", and wandb is not installed, which stops the run"
        if not installed:
            absent = f"{by}, which is not installed: the run stops"
            yield _found(facts, "log-wandb-not-installed", absent, without_key=True)
        yield _found(facts, "log-wandb-not-logged-in", what, not_installed=not installed)
    elif not installed:
        yield _found(facts, "log-wandb-not-installed", f"{by}, which is not installed: the run stops")


def wandb_answers(facts: Facts) -> Iterator[Finding]:
    answer = facts["logging.wandb_answer"]
    if answer and answer["stage"] != "answer":
        what = f"{answer['url']} cannot be reached ({answer['stage']}: {answer['error']}); wandb stops the run at its start"
        yield _found(facts, "log-wandb-network", what)


def tensorboard(facts: Facts) -> Iterator[Finding]:
    """torch brings the writer only where tensorboard is there; tensorboardX serves as well."""
    if "tensorboard" in _wanted(facts) and not {"tensorboard", "tensorboardx"} & facts["packages.versions"].keys():
        yield _found(facts, "log-tensorboard-missing", "report_to names tensorboard, which is not installed")


def others(facts: Facts) -> Iterator[Finding]:
    """Other loggers that the recipe names and that are not installed."""
    installed, values = facts["packages.versions"], facts["recipe.values"]
    named = facts["logging.report_to"] or []
    if values.get("use_swanlab") is True and "swanlab" not in named:
        named = [*named, "swanlab"]
    for name in named:
        package = PACKAGES.get(name)
        if package is None or name in ("wandb", "tensorboard") or package in installed:
            continue
        what = f"the recipe logs to {name}, and {package} is not installed"
        if name == "swanlab":
            yield _found(facts, "log-swanlab-not-installed", what, use_swanlab=values.get("use_swanlab") is True)
        else:
            yield _found(facts, "pkg-missing", what, module=package, distribution=package)


JUDGEMENTS = (wandb, wandb_answers, tensorboard, others)
