import json

import pytest

from doctor.facts import Facts
from doctor.findings import Finding
from doctor.hub import settings
from doctor.hub.connection import Answer
from doctor.probes import hub
from knowledge_base.schema import Severity
from tests.support import servers
from tests.support.worlds import world

MODEL = "Qwen/Qwen2.5-32B-Instruct"
CONFIG = f"/{MODEL}/resolve/main/config.json"
TOKEN = "hf_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZ01234567"
RECIPE = {
    "recipe.path": "r.yaml",
    "recipe.values": {"model_name_or_path": MODEL},
    "recipe.lines": {"model_name_or_path": 2},
}
HUB_MODEL = {**RECIPE, "model.name": MODEL, "model.kind": "hub", "model.cached_path": None, "packages.versions": {}}


def collected(tmp_path, facts=HUB_MODEL, offline=False, **environ):
    known = Facts(facts)
    return known.merged(hub.collect(world(tmp_path, environ=environ, offline=offline), known))


def judged(facts) -> dict[str, Finding]:
    found = [finding for rule in hub.JUDGEMENTS for finding in rule(facts)]
    assert len({f.cause for f in found}) == len(found)
    return {f.cause: f for f in found}


@pytest.fixture
def no_network(monkeypatch):
    """The machine without network of the story: names have no address."""
    monkeypatch.setattr("doctor.hub.questions.questions", lambda route, needs: (
        [Answer("dns", "huggingface.co has no address (Name or service not known)") for _ in needs],
        {name: Answer("dns", "no address") for name in settings.MIRRORS},
    ))  # fmt: skip


def test_nothing_is_asked_for_a_local_model(tmp_path, monkeypatch):
    monkeypatch.setattr("doctor.hub.questions.questions", lambda *_: pytest.fail("the hub was asked"))
    facts = collected(tmp_path, {**HUB_MODEL, "model.name": "/models/qwen", "model.kind": "local"})
    assert facts["hub.asked"] is False
    assert facts["hub.not_asked_because"] == "nothing is needed from a hub"
    assert judged(facts) == {}


def test_a_local_model_with_a_broken_token_is_worth_knowing_only(tmp_path):
    facts = collected(tmp_path, {**HUB_MODEL, "model.kind": "local"}, HF_TOKEN=f"{TOKEN[:9]} {TOKEN[9:]}")
    finding = judged(facts)["hub-token-invalid"]
    assert finding.severity is Severity.INFO
    assert TOKEN[:9] not in json.dumps(facts.to_json())


def test_no_network(tmp_path, no_network):
    finding = judged(collected(tmp_path))["hub-unreachable"]
    assert finding.severity is None
    assert finding.evidence[0].where == "r.yaml:2"
    assert "no address" in finding.evidence[0].what
    assert finding.details["stage"] == "dns"
    assert "mirror" not in finding.details


def test_a_complete_copy_in_the_cache_makes_it_a_warning(tmp_path, no_network):
    copy = "/h/.cache/huggingface/hub/models--Qwen--Qwen2.5-32B-Instruct/snapshots/abc"
    finding = judged(collected(tmp_path, {**HUB_MODEL, "model.cached_path": copy}))["hub-unreachable"]
    assert finding.severity is Severity.WARNING
    assert finding.details["cached_model"] == copy


def test_a_copy_in_modelscopes_cache_is_offered_but_does_not_help_by_itself(tmp_path, no_network):
    copy = "/h/.cache/modelscope/hub/models/Qwen/Qwen2___5-32B-Instruct"
    finding = judged(collected(tmp_path, {**HUB_MODEL, "model.cached_path": copy}))["hub-unreachable"]
    assert finding.severity is None
    assert finding.details["cached_model"] == copy


def test_a_mirror_that_answers_is_a_detail(tmp_path, monkeypatch):
    mirrors = {"hf-mirror": Answer("answer", status=200, commit=True), "modelscope": Answer("answer", status=200)}
    monkeypatch.setattr(
        "doctor.hub.questions.questions", lambda route, needs: ([Answer("connect", "timed out")], mirrors)
    )
    details = judged(collected(tmp_path))["hub-unreachable"].details
    assert details["mirror"] == "https://hf-mirror.com"
    assert details["modelscope_has_model"] is True
    assert details["reachable"] is True
    assert details["model_dir"] == "models/Qwen2.5-32B-Instruct"


def test_offline_by_our_flag_is_half_a_finding(tmp_path):
    facts = collected(tmp_path, offline=True)
    finding = judged(facts)["hub-unreachable"]
    assert (finding.severity, finding.confidence) == (Severity.WARNING, 0.5)
    assert "not asked (--offline)" in finding.evidence[0].what


def test_offline_mode_without_the_model_cannot_run(tmp_path):
    finding = judged(collected(tmp_path, HF_HUB_OFFLINE="1"))["hub-offline-cache-miss"]
    assert finding.severity is None
    assert finding.details["variable"] == "HF_HUB_OFFLINE"


def test_offline_mode_with_the_model_is_healthy(tmp_path):
    copy = "/h/hub/models--Qwen--Qwen2.5-32B-Instruct/snapshots/abc"
    assert judged(collected(tmp_path, {**HUB_MODEL, "model.cached_path": copy}, HF_HUB_OFFLINE="1")) == {}


@pytest.mark.parametrize(
    ("reply", "cause"),
    [
        ((401, {"X-Error-Code": "GatedRepo"}), "hub-gated"),
        ((403, {"X-Error-Code": "GatedRepo"}), "hub-gated"),
        ((403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "enable it in your fine-grained token"}), "hub-token-scope"),
        ((404, {"X-Error-Code": "RepoNotFound"}), "hub-repo-not-found"),
        ((401, {"X-Error-Message": "Invalid username or password."}), "hub-repo-not-found"),
        ((401, {"X-Error-Message": "Invalid credentials in Authorization header"}), "hub-token-invalid"),
        ((404, {"X-Error-Code": "EntryNotFound"}), "model-not-hf-format"),
        ((429, {}), "hub-rate-limited"),
        ((503, {}), "hub-mirror"),
        ((200, {}), "hub-mirror"),
    ],
)  # fmt: skip
def test_what_a_real_server_answers(tmp_path, reply, cause):
    with servers.hub({CONFIG: reply}) as serving:
        facts = collected(tmp_path, HF_ENDPOINT=serving.url, HF_TOKEN=TOKEN)
    assert set(judged(facts)) == {cause}
    assert TOKEN not in json.dumps(facts.to_json())


@pytest.mark.parametrize("headers", [{"X-Repo-Commit": "c"}])
def test_a_hub_that_serves_is_healthy(tmp_path, headers):
    with servers.hub({CONFIG: (200, headers)}) as serving:
        facts = collected(tmp_path, HF_ENDPOINT=serving.url + "/")
    assert judged(facts) == {}
    assert facts["hub.asked"] is True


def test_an_endpoint_that_is_no_address(tmp_path):
    assert set(judged(collected(tmp_path, HF_ENDPOINT="hf-mirror.com"))) == {"hub-mirror"}


def test_a_refusing_proxy(tmp_path):
    with servers.proxy("403 Forbidden") as (address, _):
        facts = collected(
            tmp_path, HF_ENDPOINT="https://hub.invalid", https_proxy=address.replace("//", "//me:secret@")
        )
    finding = judged(facts)["hub-proxy"]
    assert "403 Forbidden" in finding.evidence[0].what
    assert "secret" not in json.dumps(facts.to_json())


def test_a_certificate_that_is_not_accepted_and_a_clock_that_is_behind(tmp_path):
    tls = servers.certificate(tmp_path)
    with servers.hub({}, tls) as serving:
        facts = collected(tmp_path, HF_ENDPOINT=serving.url)
    finding = judged(facts)["hub-ssl"]
    assert finding.details["clock_wrong"] is False
    behind = facts.merged({"hub.clock": {"now": 1e9, "installed": 1.7e9}})
    assert "before its packages were installed" in judged(behind)["hub-ssl"].evidence[0].what


def test_modelscope_is_asked_instead_and_its_package_is_needed(tmp_path):
    with servers.silent():
        facts = collected(tmp_path, USE_MODELSCOPE_HUB="1", MODELSCOPE_DOMAIN="ms.invalid")
    assert facts["hub.endpoint"] == "https://ms.invalid"
    assert set(judged(facts)) == {"hub-unreachable", "hub-modelscope-missing"}


def test_hf_transfer_is_called_for_and_missing(tmp_path, no_network):
    old = {**HUB_MODEL, "packages.versions": {"huggingface-hub": "0.36.2"}}
    assert "hub-hf-transfer-missing" in judged(collected(tmp_path, old, HF_HUB_ENABLE_HF_TRANSFER="1"))
    new = {**HUB_MODEL, "packages.versions": {"huggingface-hub": "1.33.0"}}
    assert "hub-hf-transfer-missing" not in judged(collected(tmp_path, new, HF_HUB_ENABLE_HF_TRANSFER="1"))


def test_a_socks_proxy_that_is_down_and_no_socks_support(tmp_path):
    dead = f"socks5://127.0.0.1:{servers.closed_port()}"
    finding = judged(collected(tmp_path, HF_ENDPOINT="https://hub.invalid", ALL_PROXY=dead))["hub-proxy"]
    assert finding.details["socks_proxy"] is True


def test_a_hub_dataset_is_needed_too(tmp_path, no_network):
    facts = {
        **HUB_MODEL,
        "model.kind": "local",
        "dataset.entries": {"alpaca": {"load_from": "hf_hub", "source": "llamafactory/alpaca_en"}},
    }
    finding = judged(collected(tmp_path, facts))["hub-unreachable"]
    assert finding.details["repo"] == "llamafactory/alpaca_en"


def test_push_to_hub_needs_a_token(tmp_path):
    values = {"model_name_or_path": "/m", "push_to_hub": True}
    local = {**HUB_MODEL, "model.kind": "local", "recipe.values": values}
    assert set(judged(collected(tmp_path, local))) == {"hub-token-missing"}
    assert judged(collected(tmp_path, local, HF_TOKEN=TOKEN)) == {}


def test_an_unreadable_token_file_is_unknown(tmp_path):
    folder = tmp_path / "home" / ".cache" / "huggingface" / "token"
    folder.mkdir(parents=True)
    facts = collected(tmp_path, {**HUB_MODEL, "model.kind": "local"})
    assert "cannot be read" in facts.why_unknown("hub.token")


@pytest.mark.parametrize(
    ("values", "names"),
    [({"dataset_dir": "ONLINE", "dataset": "a/b, c"}, ["a/b", "c"]), ({"dataset_dir": "REMOTE:me/data"}, ["me/data"]),
     ({"dataset_dir": "ONLINE", "dataset": ["a/b", 5]}, ["a/b"]), ({"dataset_dir": "REMOTE:"}, []),
     ({"dataset_dir": 5}, [])],
)  # fmt: skip
def test_data_that_only_a_hub_has(tmp_path, values, names):
    facts = {**HUB_MODEL, "model.kind": "local", "recipe.values": {"model_name_or_path": "m", **values}}
    assert [need["name"] for need in collected(tmp_path, facts, offline=True)["hub.needed"]] == names


def test_a_data_set_that_was_not_asked_for_and_never_made(tmp_path):
    entries = {"sky": {"load_from": "hf_hub", "source": "owner/data"}}
    facts = {**HUB_MODEL, "model.kind": "local", "dataset.entries": entries, "recipe.values": {"dataset": "sky"}}
    finding = judged(collected(tmp_path, facts, offline=True))["hub-unreachable"]
    assert finding.severity is Severity.WARNING
    assert "owner/data is neither a local path nor" in finding.evidence[0].what
    (tmp_path / "cache" / "owner___data").mkdir(parents=True)
    assert judged(collected(tmp_path, facts, offline=True, HF_DATASETS_CACHE=str(tmp_path / "cache"))) == {}
