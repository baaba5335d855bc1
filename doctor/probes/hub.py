"""The model hub: is it needed, how would the target reach it, does it answer, and does it give what the recipe names.

Nothing is asked when nothing is needed from a hub, when the target is in offline mode, or with --offline.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import msgspec
from packaging.version import InvalidVersion, Version

from doctor import redact
from doctor.facts import Facts, Unknown
from doctor.findings import Finding, Severity, found
from doctor.hub import offline_data, settings
from doctor.hub.needs import Need
from doctor.probes import whole
from doctor.probes.model import looks_like_path
from doctor.target import Target

ID = "hub"
AFTER: tuple[str, ...] = ("recipe", "model", "dataset", "packages")

_found = partial(found, ID)

# Recipe keys whose values a hub may have to deliver, besides the model itself.
_MODEL_KEYS = ("adapter_name_or_path", "ref_model", "ref_model_adapters", "reward_model")


def parts(target: Target, facts: Facts) -> Iterator[dict[str, Any]]:
    """What is needed and how it would be asked for; then, where it may be asked, the answers."""
    environ = target.environ
    other = settings.other_hub(environ)
    endpoint = _modelscope(environ) if other == "modelscope" else settings.endpoint(environ)
    requests_client = _uses_requests(facts)
    ca = settings.ca_bundle(environ, requests_client)
    proxy = settings.proxy_for(endpoint, environ)
    token, described = _token(environ)
    needs = _needs(target, facts)
    offline = settings.offline_variable(environ)
    reason = (
        "nothing is needed from a hub" if not needs
        else "asked not to (--offline)" if target.offline
        else f"{offline} is set" if offline
        else f"{other} is not probed" if other == "openmind"
        else None
    )  # fmt: skip
    found: dict[str, Any] = {
        "hub.endpoint": redact.text(endpoint),
        "hub.endpoint_given": "HF_ENDPOINT" in environ and not other,
        "hub.offline_variable": offline,
        "hub.data_offline": settings.offline_variable_of_data(environ),
        "hub.data_uncached": offline_data.uncached(environ, needs),
        "hub.other_hub": other,
        "hub.proxy": redact.text(proxy) if proxy else None,
        "hub.ca_bundle": ca,
        "hub.cache": str(settings.hub_cache(environ)),
        "hub.token": described,
        "hub.needed": [msgspec.structs.asdict(need) for need in needs],
        "hub.system_bundle": settings.system_bundle(ca),
        "hub.clock": _clock(target),
        # huggingface_hub 1.0 dropped hf_transfer and ignores the variable
        "hub.transfer_wanted": requests_client and settings.is_true(environ.get("HF_HUB_ENABLE_HF_TRANSFER")),
    }
    yield found
    told: dict[str, Any] = {"hub.asked": reason is None, "hub.not_asked_because": reason}
    told |= {"hub.answers": [], "hub.others": {}}
    if reason is None:
        from doctor.hub.questions import Route, questions  # brings ssl and http.client, which most checks do not need

        usable = token if token and not settings.token_fault(token) and not other else None
        route = Route(endpoint, usable, lambda url: settings.proxy_for(url, environ), ca, other == "modelscope")
        answers, others = questions(route, needs)
        told["hub.answers"] = [_plain(answer) for answer in answers]
        told["hub.others"] = {name: _plain(answer) for name, answer in others.items()}
    yield told


def collect(target: Target, facts: Facts) -> dict[str, Any]:
    return whole(parts(target, facts))


def _plain(answer: Any) -> dict[str, Any]:
    if answer is None:
        return {"stage": "http", "error": "no answer in time"}
    return {name: value for name, value in msgspec.structs.asdict(answer).items() if value is not None}


def _modelscope(environ: dict[str, str]) -> str:
    """ModelScope's address as its library reads it (modelscope/hub/constants.py: MODELSCOPE_DOMAIN)."""
    return (
        f"https://{environ['MODELSCOPE_DOMAIN']}"
        if environ.get("MODELSCOPE_DOMAIN")
        else settings.MIRRORS["modelscope"]
    )


def _uses_requests(facts: Facts) -> bool:
    """huggingface_hub went from requests to httpx in 1.0."""
    try:
        return Version(facts.get("packages.versions", {}).get("huggingface-hub", "0")) < Version("1.0")
    except InvalidVersion:
        return False


def _token(environ: dict[str, str]) -> tuple[str | None, Any]:
    """The token for the request, and what may be told of it: where it stands and what is wrong with its shape."""
    try:
        token, source = settings.read_token(environ)
    except OSError as error:
        return None, Unknown(f"the token file cannot be read ({error.strerror})")
    if source is None:
        return None, None
    return token, {"source": source, "fault": settings.token_fault(token)}


def _needs(target: Target, facts: Facts) -> list[Need]:
    values = facts["recipe.values"]
    needs = []
    name = facts["model.name"]
    if name and facts["model.kind"] == "hub" and settings.is_repo_id(name):
        needs.append(Need("model", name, "model_name_or_path", str(values.get("model_revision") or "main")))
    for key in _MODEL_KEYS:
        for part in str(values.get(key) or "").split(","):
            part = part.strip()
            if part and settings.is_repo_id(part) and "/" in part and not looks_like_path(part, target.workdir):
                needs.append(Need("model", part, key))
    wanted = "ms_hub" if settings.other_hub(target.environ) == "modelscope" else "hf_hub"
    folder = values.get("dataset_dir")
    if folder == "ONLINE":
        named = values.get("dataset")
        parts = named if isinstance(named, list) else str(named or "").split(",")
        needs += [
            Need("dataset", name.strip(), "dataset_dir") for name in parts if isinstance(name, str) and name.strip()
        ]
    elif isinstance(folder, str) and folder.startswith("REMOTE:") and (held := folder.removeprefix("REMOTE:").strip()):
        needs.append(Need("dataset", held, "dataset_dir"))
    for entry in facts.get("dataset.entries", {}).values():  # none where the dataset probe could not read them
        if entry["load_from"] == wanted and settings.is_repo_id(entry["source"]):
            needs.append(Need("dataset", entry["source"], "dataset"))
    return needs


def _clock(target: Target) -> dict[str, float]:
    """Now, and the youngest time that must lie in the past: when the target's packages were installed."""
    times = []
    for site in target.site:
        try:
            times.append(site.stat().st_mtime)
        except OSError:
            continue
    return {"now": time.time(), "installed": max(times, default=0.0)}


def _where(facts: Facts, need: dict[str, Any]) -> str:
    line = facts.get("recipe.lines", {}).get(need["key"])
    path = facts.get("recipe.path", "the recipe")
    return f"{path}:{line}" if line else path


def _details(facts: Facts, need: dict[str, Any]) -> dict[str, Any]:
    """What the fixes of the hub causes want: another way that answered, a complete copy that is already here."""
    serves = {name for name, answer in facts["hub.others"].items() if answer.get("status", 500) < 400}
    urls = {"huggingface": settings.DEFAULT_ENDPOINT, **settings.MIRRORS}
    mirror = next((urls[name] for name in ("huggingface", "hf-mirror") if name in serves), None)
    installed = facts.get("packages.versions", {})
    details = {
        "repo": need["name"],
        "mirror": mirror,
        "hub_reachable": "huggingface" in serves,
        "reachable": bool(serves & {"huggingface", "hf-mirror", "modelscope"}),
        "reachable_without_proxy": "direct" in serves,
        "ca_bundle": facts["hub.system_bundle"] if "system-ca" in serves else None,
        "modelscope_has_model": "modelscope" in serves and need["kind"] == "model",
        "modelscope_installed": "modelscope" in installed,
        "socks_proxy": str(facts["hub.proxy"]).startswith("socks") and not {"pysocks", "socksio"} & installed.keys(),
    }
    if need["key"] == "model_name_or_path":
        details["cached_model"] = facts.get("model.cached_path")
        details["model_dir"] = f"models/{need['name'].rpartition('/')[2]}"
    return {name: value for name, value in details.items() if value is not None}


def _in_hub_cache(facts: Facts, need: dict[str, Any]) -> bool:
    """Whether the complete copy lies where huggingface_hub itself finds it."""
    copy = facts.get("model.cached_path") if need["key"] == "model_name_or_path" else None
    return bool(copy) and "models--" in str(copy)


def data_not_asked(facts: Facts) -> Iterator[Finding]:
    """A data set that `datasets` would take from its own cache, which has none of it."""
    variable = facts.get("hub.data_offline")
    for need in facts["hub.needed"]:
        if variable and need["kind"] == "dataset" and need["name"] in facts.get("hub.data_uncached", ()):
            what = f"{variable} is set and the data set {need['name']} was never loaded here before"
            details = {**_details(facts, need), "variable": variable, "cache": facts["hub.cache"]}
            yield _found("hub-offline-cache-miss", what, variable, **details)


def unreachable(facts: Facts) -> Iterator[Finding]:
    """No answer from the hub that the recipe needs, and which stage failed."""
    for need, answer in zip(facts["hub.needed"], facts["hub.answers"], strict=False):
        if answer["stage"] == "settings" or (answer["stage"] == "answer" and answer["status"] < 500):
            continue
        details = {**_details(facts, need), "stage": answer["stage"]}
        error = answer.get("error") or f"HTTP {answer.get('status')}"
        what = f"{need['name']} is to come from {facts['hub.endpoint']}: {error}"
        severity = Severity.WARNING if _in_hub_cache(facts, need) else None
        if severity:
            what += "; a complete copy is in the cache, but every file is asked for first"
        where = "HF_ENDPOINT" if facts["hub.endpoint_given"] else _where(facts, need)
        if answer["stage"] == "proxy":
            yield _found("hub-proxy", what, where, severity, **details)
        elif answer["stage"] == "tls":
            yield from _tls(facts, what, severity, details)
        elif answer["stage"] == "answer" and facts["hub.endpoint_given"]:
            yield _found("hub-mirror", what, where, severity, **details)
        else:
            yield _found("hub-unreachable", what, where, severity, **details)
        return  # one hub, one finding


def _tls(facts: Facts, what: str, severity: Severity | None, details: dict[str, Any]) -> Iterator[Finding]:
    clock = facts["hub.clock"]
    behind = clock["now"] < clock["installed"] - 86400
    if behind or "expired" in what or "not yet valid" in what:
        what += f"; this machine's clock says {time.strftime('%Y-%m-%d %H:%M', time.gmtime(clock['now']))} UTC"
        if behind:
            what += ", which is before its packages were installed"
    if bundle := facts["hub.ca_bundle"]:
        what += f"; the certificates are those of {bundle}"
    yield _found("hub-ssl", what, facts["hub.endpoint"], severity, clock_wrong=behind, **details)


def not_asked(facts: Facts) -> Iterator[Finding]:
    """Needed from a hub that this run of check, or the training itself, does not ask."""
    variable = facts["hub.offline_variable"]
    for need in facts["hub.needed"]:
        made = need["kind"] == "dataset" and (variable or need["name"] not in facts.get("hub.data_uncached", ()))
        if facts["hub.asked"] or _in_hub_cache(facts, need) or made:  # data sets in offline mode are told above
            continue
        details = _details(facts, need)
        if variable:
            what = f"{variable} is set and {need['name']} is neither a local path nor complete in the cache"
            yield _found(
                "hub-offline-cache-miss", what, variable, variable=variable, cache=facts["hub.cache"], **details
            )
        elif facts["hub.not_asked_because"] == "asked not to (--offline)":
            what = f"not asked (--offline); {need['name']} is neither a local path nor complete in a cache"
            yield _found("hub-unreachable", what, _where(facts, need), Severity.WARNING, confidence=0.5, **details)


def refused(facts: Facts) -> Iterator[Finding]:
    """The hub answered, and the answer is no. The rules are those of huggingface_hub's hf_raise_for_status."""
    token = facts.get("hub.token")
    for need, answer in zip(facts["hub.needed"], facts["hub.answers"], strict=False):
        status, code, said = answer.get("status", 0), answer.get("code"), answer.get("message") or ""
        if answer["stage"] != "answer" or status < 400 or facts["hub.other_hub"]:
            continue
        details = {**_details(facts, need), "status": status, "token_present": bool(token)}
        what = f"{need['name']}: HTTP {status}{f' {code}' if code else ''}{f' ({said})' if said else ''}"
        where = _where(facts, need)
        if status == 429:
            yield _found("hub-rate-limited", what, where, **details)
        elif code == "GatedRepo" and "fine-grained" in said:
            yield _found("hub-token-scope", what, where, **details)
        elif code == "GatedRepo" or (status == 403 and code is None and token):
            yield _found("hub-gated", what, where, **details)
        elif status == 401 and "Invalid credentials" in said:
            source = token["source"] if token else "HF_TOKEN"
            in_environment = not source.startswith("/")
            yield _found("hub-token-invalid", what, source, token_in_environment=in_environment, **details)
        elif code == "EntryNotFound":
            if need["kind"] == "model" and need["key"] == "model_name_or_path":
                yield _found("model-not-hf-format", f"{what}: it has no config.json", where, confidence=0.7, **details)
        elif code in ("RepoNotFound", "RevisionNotFound") or status in (401, 404):
            yield _found("hub-repo-not-found", f"{what} at {facts['hub.endpoint']}", where, **details)
        elif status == 403:
            yield _found("hub-proxy" if facts["hub.proxy"] else "hub-gated", what, where, confidence=0.6, **details)


def not_a_hub(facts: Facts) -> Iterator[Finding]:
    """A mirror whose answer lacks X-Repo-Commit: huggingface_hub then refuses the file."""
    for need, answer in zip(facts["hub.needed"], facts["hub.answers"], strict=False):
        if answer.get("status", 500) >= 400 or answer["commit"] or facts["hub.other_hub"] or need["kind"] != "model":
            continue
        what = f"{facts['hub.endpoint']} answers for {need['name']} without X-Repo-Commit, as no hub does"
        if facts["hub.endpoint_given"]:
            yield _found("hub-mirror", what, "HF_ENDPOINT", **_details(facts, need))
        else:
            where = "proxy" if facts["hub.proxy"] else _where(facts, need)
            yield _found("hub-proxy", what, where, confidence=0.8, **_details(facts, need))


def endpoint_shape(facts: Facts) -> Iterator[Finding]:
    """HF_ENDPOINT without a scheme or empty: every address made from it is invalid."""
    endpoint = facts["hub.endpoint"]
    if facts["hub.endpoint_given"] and facts["hub.needed"] and not endpoint.startswith(("http://", "https://")):
        what = f"HF_ENDPOINT is {endpoint!r}, which is not an http address"
        yield _found("hub-mirror", what, "HF_ENDPOINT", **_details(facts, facts["hub.needed"][0]))


def token_shape(facts: Facts) -> Iterator[Finding]:
    """A token that cannot be valid. It hurts where a hub is asked; else it is only worth knowing."""
    token = facts["hub.token"]
    if token and token["fault"]:
        needed = facts["hub.needed"] and not facts["hub.other_hub"] and not facts["hub.offline_variable"]
        what = f"the token of {token['source']} cannot be valid: {token['fault']}"
        severity = None if needed else Severity.INFO
        in_environment = not token["source"].startswith(("/", "~"))
        yield _found("hub-token-invalid", what, token["source"], severity, token_in_environment=in_environment)


def token_missing(facts: Facts) -> Iterator[Finding]:
    if facts["recipe.values"].get("push_to_hub") is True and facts["hub.token"] is None:
        line = facts.get("recipe.lines", {}).get("push_to_hub")
        where = f"{facts['recipe.path']}:{line}" if line else facts["recipe.path"]
        yield _found("hub-token-missing", "push_to_hub is true and no token is set", where, push_to_hub=True)


def missing_clients(facts: Facts) -> Iterator[Finding]:
    """Packages that variables of the launch call for and that nothing declares."""
    installed = facts["packages.versions"]
    if not facts["hub.needed"]:
        return
    if facts["hub.other_hub"] == "modelscope" and "modelscope" not in installed:
        what = "USE_MODELSCOPE_HUB is set and modelscope is not installed"
        yield _found("hub-modelscope-missing", what, "USE_MODELSCOPE_HUB")
    if facts["hub.transfer_wanted"] and "hf-transfer" not in installed:
        what = "HF_HUB_ENABLE_HF_TRANSFER is set and hf_transfer is not installed: every download stops"
        yield _found("hub-hf-transfer-missing", what, "HF_HUB_ENABLE_HF_TRANSFER")


JUDGEMENTS = (
    unreachable, not_asked, data_not_asked, refused, not_a_hub, endpoint_shape, token_shape, token_missing, missing_clients,
)  # fmt: skip
