import socket
import time

import pytest

from doctor.hub.connection import ask
from tests.support import servers

TOKEN = "hf_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZ01234567"


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    return servers.certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def expired(tmp_path_factory):
    return servers.certificate(tmp_path_factory.mktemp("tls"), expired=True)


def test_an_answer_with_its_headers():
    reply = (401, {"X-Error-Code": "GatedRepo", "X-Error-Message": f"no, {TOKEN}", "X-Repo-Commit": "abc"})
    with servers.hub({"/a/b/resolve/main/config.json": reply}) as hub:
        answer = ask(f"{hub.url}/a/b/resolve/main/config.json", token=TOKEN)
    assert (answer.stage, answer.status, answer.code, answer.commit) == ("answer", 401, "GatedRepo", True)
    assert TOKEN not in (answer.message or "")
    assert hub.requests[0][1]["Authorization"] == f"Bearer {TOKEN}"


def test_no_token_no_header():
    with servers.hub() as hub:
        ask(f"{hub.url}/x")
    assert "Authorization" not in hub.requests[0][1]


def test_tls_with_a_trusted_certificate(certificate):
    with servers.hub({"/x": (200, {})}, certificate) as hub:
        assert ask(f"{hub.url}/x", ca=str(certificate[0])).status == 200


def test_a_certificate_that_nobody_trusts(certificate):
    with servers.hub({"/x": (200, {})}, certificate) as hub:
        answer = ask(f"{hub.url}/x")
    assert (answer.stage, answer.certificate) == ("tls", True)
    assert "self-signed certificate" in (answer.error or "")


def test_an_expired_certificate(expired):
    with servers.hub({"/x": (200, {})}, expired) as hub:
        answer = ask(f"{hub.url}/x", ca=str(expired[0]))
    assert answer.stage == "tls"
    assert "expired" in (answer.error or "")


def test_a_certificate_bundle_that_is_not_there(certificate, tmp_path):
    with servers.hub({}, certificate) as hub:
        answer = ask(f"{hub.url}/x", ca=str(tmp_path / "none.pem"))
    assert answer.stage == "tls"
    assert "none.pem" in (answer.error or "")


def test_tls_where_the_server_speaks_none():
    with servers.hub() as hub:
        answer = ask(hub.url.replace("http:", "https:") + "/x")
    assert answer.stage == "tls"
    assert not answer.certificate


def test_a_name_without_address():
    def refuses(host, port):
        raise socket.gaierror(-2, "Name or service not known")

    answer = ask("https://huggingface.co/x", resolver=refuses)
    assert answer.stage == "dns"
    assert "huggingface.co" in (answer.error or "")


def test_a_name_service_that_hangs_is_left_behind():
    begun = time.monotonic()
    answer = ask("https://huggingface.co/x", resolver=lambda host, port: time.sleep(30), seconds=0.3)
    assert answer.stage == "dns"
    assert "name service" in (answer.error or "")
    assert time.monotonic() - begun < 1.0


def test_nobody_listens():
    answer = ask(f"http://127.0.0.1:{servers.closed_port()}/x")
    assert answer.stage == "connect"
    assert "refused" in (answer.error or "").lower()


def test_a_server_that_says_nothing():
    with servers.silent() as place:
        begun = time.monotonic()
        assert ask(f"http://{place}/x", seconds=0.4).stage == "http"
        assert ask(f"https://{place}/x", seconds=0.4).stage == "tls"
        assert time.monotonic() - begun < 2.0


def test_through_a_proxy(certificate):
    with servers.hub({"/x": (200, {})}, certificate) as hub, servers.proxy() as (address, heads):
        login = address.replace("http://", "http://user:p%40ss@")
        answer = ask(f"{hub.url}/x", proxy=login, ca=str(certificate[0]))
    assert answer.status == 200
    assert heads[0].startswith(f"CONNECT localhost:{hub.port} ")
    assert "Proxy-Authorization: Basic dXNlcjpwQHNz" in heads[0]


def test_a_proxy_that_refuses(certificate):
    with servers.proxy("407 Proxy Authentication Required") as (address, _):
        answer = ask("https://huggingface.co/x", proxy=address)
    assert answer.stage == "proxy"
    assert "407 Proxy Authentication Required" in (answer.error or "")


def test_a_proxy_that_is_not_there():
    answer = ask("https://huggingface.co/x", proxy=f"http://127.0.0.1:{servers.closed_port()}")
    assert answer.stage == "proxy"
    assert "refused" in (answer.error or "").lower()


@pytest.mark.parametrize("url", ["", "huggingface.co/x", "ftp://a/x", "http://a:port/x", "https:///x"])
def test_addresses_that_are_none(url):
    assert ask(url).stage == "settings"


def test_through_a_socks_proxy(certificate):
    with servers.hub({"/x": (200, {})}, certificate) as hub, servers.socks() as place:
        assert ask(f"{hub.url}/x", proxy=f"socks5h://{place}", ca=str(certificate[0])).status == 200
    with servers.hub({"/x": (200, {})}) as hub, servers.socks("secret") as place:
        assert ask(f"{hub.url}/x", proxy=f"socks5://user:secret@{place}").status == 200


@pytest.mark.parametrize(
    ("arguments", "login", "why"),
    [
        ({"reply": 5}, "", "connection refused"),
        ({"password": "p"}, "", "login"),
        ({"password": "p"}, "user:q@", "login"),
    ],
)
def test_a_socks_proxy_that_refuses(arguments, login, why):
    with servers.socks(**arguments) as place:
        answer = ask("https://huggingface.co/x", proxy=f"socks5://{login}{place}")
    assert answer.stage == "proxy"
    assert why in (answer.error or "")


def test_a_kind_of_proxy_that_is_not_tried():
    assert ask("https://huggingface.co/x", proxy="socks4://127.0.0.1:1080").stage == "proxy"
