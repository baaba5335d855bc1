import time

from doctor.hub import questions as asked
from doctor.hub import settings
from doctor.hub.connection import Answer
from doctor.hub.needs import Need
from doctor.hub.questions import Route, head, other_ways, questions
from tests.support import servers

MODEL = Need("model", "Qwen/Qwen2.5-32B-Instruct", "model_name_or_path")
CONFIG = "/Qwen/Qwen2.5-32B-Instruct/resolve/main/config.json"


def route(endpoint, token=None):
    return Route(endpoint, token, lambda url: None, None)


def test_paths():
    assert MODEL.path() == CONFIG
    assert Need("dataset", "a/b", "dataset").path() == "/datasets/a/b/resolve/main/README.md"
    assert MODEL.path(modelscope=True) == "/models/Qwen/Qwen2.5-32B-Instruct/resolve/master/config.json"


def test_a_renamed_repository_is_followed_on_the_same_host():
    replies = {CONFIG: (307, {"Location": "/new/resolve/main/config.json"}),
               "/new/resolve/main/config.json": (200, {"X-Repo-Commit": "c"})}  # fmt: skip
    with servers.hub(replies) as hub:
        answer = head(route(hub.url), MODEL, 2.0)
    assert (answer.status, answer.commit) == (200, True)


def test_a_redirect_to_another_host_is_the_answer():
    with servers.hub({CONFIG: (302, {"Location": "https://cdn.invalid/blob", "X-Repo-Commit": "c"})}) as hub:
        assert head(route(hub.url), MODEL, 2.0).status == 302


def test_a_hub_that_answers_asks_no_mirror():
    with servers.hub({CONFIG: (200, {"X-Repo-Commit": "c"})}) as hub:
        answers, mirrors = questions(route(hub.url), [MODEL])
    assert answers[0].status == 200
    assert mirrors == {}


def test_mirrors_are_asked_without_the_token_when_the_hub_does_not_answer():
    seen = []

    def asking(url, token=None, **_):
        seen.append((url, token))
        if "hf-mirror" in url:
            return Answer("answer", status=200, commit=True)
        return Answer("dns", "no address")

    answers, mirrors = questions(route("https://huggingface.co", "hf_x"), [MODEL], asking)
    assert answers[0].stage == "dns"
    assert mirrors["hf-mirror"].status == 200
    assert mirrors["modelscope"].stage == "dns"
    assert {token for url, token in seen if not url.startswith("https://huggingface.co")} == {None}


def test_a_silent_hub_does_not_keep_the_mirrors_waiting(monkeypatch):
    monkeypatch.setattr(asked, "TOTAL_SECONDS", 0.6)
    monkeypatch.setattr(asked, "OTHERS_AFTER", 0.1)

    def asking(url, **_):
        if url.startswith("https://huggingface.co"):
            time.sleep(5)
        return Answer("answer", status=200)

    begun = time.monotonic()
    answers, mirrors = questions(route("https://huggingface.co"), [MODEL], asking)
    assert answers == [None]
    assert set(mirrors) == {"hf-mirror", "modelscope"}
    assert time.monotonic() - begun < 1.0


def test_the_hub_itself_is_another_way_when_a_mirror_lacks_the_file():
    with servers.hub() as mirror:
        answers, others = questions(route(mirror.url), [MODEL], lambda url, **_: Answer("answer", status=404))
    assert answers[0].status == 404
    assert set(others) == {"huggingface", "hf-mirror", "modelscope"}


def test_a_failing_proxy_suggests_to_go_without():
    ways = other_ways(route("https://huggingface.co"), Answer("proxy", "refused"))
    assert ways["direct"].proxy_for("https://huggingface.co") is None
    assert "direct" not in other_ways(route("https://huggingface.co"), Answer("connect", "refused"))


def test_a_certificate_suggests_the_systems_bundle(tmp_path, monkeypatch):
    bundle = tmp_path / "ca.crt"
    bundle.touch()
    monkeypatch.setattr(settings, "_SYSTEM_BUNDLES", ("/nowhere", str(bundle)))
    ways = other_ways(route("https://huggingface.co"), Answer("tls", "self-signed", certificate=True))
    assert ways["system-ca"].ca == str(bundle)
    assert "system-ca" not in other_ways(route("https://huggingface.co"), Answer("tls", "reset"))
