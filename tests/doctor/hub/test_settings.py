from pathlib import Path

import pytest

from doctor.hub import settings


def test_endpoint_as_huggingface_hub_reads_it():
    assert settings.endpoint({}) == "https://huggingface.co"
    assert settings.endpoint({"HF_ENDPOINT": "https://hf-mirror.com//"}) == "https://hf-mirror.com"
    assert settings.endpoint({"HF_ENDPOINT": ""}) == ""


@pytest.mark.parametrize(
    ("environ", "variable"),
    [
        ({}, None),
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE"),
        ({"TRANSFORMERS_OFFLINE": "true"}, "TRANSFORMERS_OFFLINE"),
        ({"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "1"}, None),  # `"0" or "1"` is "0" in Python
        ({"HF_HUB_OFFLINE": "", "TRANSFORMERS_OFFLINE": "1"}, "TRANSFORMERS_OFFLINE"),
    ],
)
def test_offline(environ, variable):
    assert settings.offline_variable(environ) == variable


@pytest.mark.parametrize("value", ["1", "true", "True"])
def test_modelscope(value):
    assert settings.other_hub({"USE_MODELSCOPE_HUB": value}) == "modelscope"


def test_no_other_hub():
    assert settings.other_hub({"USE_MODELSCOPE_HUB": "0"}) is None


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-32B-Instruct", "gpt2", "a_b/c.d-e"])
def test_repo_ids(name):
    assert settings.is_repo_id(name)


@pytest.mark.parametrize(
    "name", ["/data/model", "./model", "../model", "a/b/c", "", "~/model", "a//b", "模型 路径", "C:\\m"]
)
def test_paths_are_no_repo_ids(name):
    assert not settings.is_repo_id(name)


def test_caches_and_token_file_follow_the_environment():
    assert settings.hub_cache({"HOME": "/h"}) == Path("/h/.cache/huggingface/hub")
    assert settings.hub_cache({"HOME": "/h", "XDG_CACHE_HOME": "/x"}) == Path("/x/huggingface/hub")
    assert settings.hub_cache({"HOME": "/h", "HF_HOME": "~/hf"}) == Path("/h/hf/hub")
    assert settings.hub_cache({"HOME": "/h", "HF_HUB_CACHE": "$DATA/hub", "DATA": "/d"}) == Path("/d/hub")
    assert settings.token_path({"HOME": "/h", "HF_HOME": "/hf"}) == Path("/hf/token")
    assert settings.token_path({"HOME": "/h", "HF_TOKEN_PATH": "/t"}) == Path("/t")


def test_token_sources(tmp_path):
    assert settings.read_token({"HOME": str(tmp_path)}) == (None, None)
    file = tmp_path / ".cache" / "huggingface" / "token"
    file.parent.mkdir(parents=True)
    file.write_text("hf_" + "a1B2c3D4e5" * 3 + "\n")
    token, source = settings.read_token({"HOME": str(tmp_path)})
    assert token == "hf_" + "a1B2c3D4e5" * 3
    assert source == str(file)
    assert settings.read_token({"HOME": str(tmp_path), "HF_TOKEN": " x\r\n"}) == ("x", "HF_TOKEN")


GOOD = "hf_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZ01234567"


@pytest.mark.parametrize(
    "token", [GOOD, "api_org_" + GOOD[3:], "0123456789abcdef0123456789abcdef", "hf_jwt_" + GOOD[3:] + ".x-y"]
)
def test_token_shapes_that_may_be_valid(token):
    assert settings.token_fault(token) is None


@pytest.mark.parametrize(
    ("token", "word"),
    [
        (None, "empty"),
        (GOOD[:10] + " " + GOOD[10:], "blank"),
        (f'"{GOOD}"', "quotation"),
        ("hf_your_token_here_please_now", "placeholder"),
        ("hf_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "placeholder"),
        ("hf_aBc", "placeholder"),
        (f"Bearer{GOOD}", "word"),
        (GOOD + "。", "characters"),
    ],
)
def test_token_shapes_that_cannot_be_valid(token, word):
    fault = settings.token_fault(token)
    assert fault is not None
    assert word in fault
    assert token is None or token not in fault


@pytest.mark.parametrize(
    ("environ", "proxy"),
    [
        ({}, None),
        ({"https_proxy": "http://p:1"}, "http://p:1"),
        ({"HTTPS_PROXY": "p:1"}, "http://p:1"),
        ({"http_proxy": "http://p:1"}, None),
        ({"ALL_PROXY": "socks5://p:1"}, "socks5://p:1"),
        ({"https_proxy": "http://p:1", "NO_PROXY": "localhost,.huggingface.co"}, None),
        ({"https_proxy": "http://p:1", "no_proxy": "huggingface.co"}, None),
        ({"https_proxy": "http://p:1", "no_proxy": "face.co"}, "http://p:1"),
        ({"https_proxy": "http://p:1", "no_proxy": "*"}, None),
        ({"https_proxy": "http://lower:1", "HTTPS_PROXY": "http://upper:1"}, "http://lower:1"),
    ],
)
def test_proxy(environ, proxy):
    assert settings.proxy_for("https://huggingface.co/x", environ) == proxy


def test_certificates_by_client():
    environ = {"REQUESTS_CA_BUNDLE": "/r.pem", "SSL_CERT_FILE": "/s.pem"}
    assert settings.ca_bundle(environ, requests_client=True) == "/r.pem"
    assert settings.ca_bundle(environ, requests_client=False) == "/s.pem"
    assert settings.ca_bundle({}, requests_client=True) is None
