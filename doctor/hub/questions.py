"""What is asked of a hub in one examination: the endpoint for each thing needed, other ways where it does not serve."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from urllib.parse import urljoin, urlsplit

import msgspec

from doctor.hub import settings
from doctor.hub.connection import Answer, ask
from doctor.hub.needs import Need

TOTAL_SECONDS = 3.5  # of the 5 s that a check may take; other ways are tried within it
OTHERS_AFTER = 1.2  # seconds of silence of the endpoint after which other ways are tried beside it
_REDIRECTS = 2
Ask = Callable[..., Answer]


class Route(msgspec.Struct, frozen=True):
    """How the target's client would connect. `modelscope`: the endpoint is ModelScope's."""

    endpoint: str
    token: str | None
    proxy_for: Callable[[str], str | None]
    ca: str | None
    modelscope: bool = False


def head(route: Route, need: Need, seconds: float, asking: Ask = ask) -> Answer:
    """HEAD with the redirects that huggingface_hub follows: those on the same host (renamed repositories)."""
    url = route.endpoint + need.path(route.modelscope)
    deadline = time.monotonic() + seconds
    for _ in range(_REDIRECTS + 1):
        left = max(0.1, deadline - time.monotonic())
        answer = asking(url, token=route.token, proxy=route.proxy_for(url), ca=route.ca, seconds=left)
        if answer.status not in (301, 302, 303, 307, 308) or not answer.location:
            return answer
        following = urljoin(url, answer.location)
        if urlsplit(following).netloc != urlsplit(url).netloc:
            return answer
        url = following
    return answer


def questions(route: Route, needs: list[Need], asking: Ask = ask) -> tuple[list[Answer | None], dict[str, Answer]]:
    """(an answer for each need in order, None where none came in time), ({other way: its answer} where one was tried)."""
    deadline = time.monotonic() + TOTAL_SECONDS
    answers: list[Answer | None] = [None] * len(needs)
    others: dict[str, Answer] = {}

    def work(place: int) -> None:
        answers[place] = head(route, needs[place], deadline - time.monotonic(), asking)

    def try_other(name: str, way: Route, need: Need) -> None:
        others[name] = head(way, need, deadline - time.monotonic(), asking)

    workers = _started([partial(work, place) for place in range(len(needs))])
    _joined(workers, time.monotonic() + OTHERS_AFTER)
    unserved = next(((need, a) for need, a in zip(needs, answers, strict=True) if not served(a)), None)
    if unserved is not None:
        need, answer = unserved
        workers += _started([partial(try_other, name, way, need) for name, way in other_ways(route, answer).items()])
    _joined(workers, deadline)
    return list(answers), dict(others)


def served(answer: Answer | None) -> bool:
    return answer is not None and answer.status is not None and answer.status < 400


def other_ways(route: Route, answer: Answer | None) -> dict[str, Route]:
    """Ways to try when the endpoint does not serve: the hub and its mirrors, and what the failure itself suggests.

    None of them is given the token: it belongs to the endpoint that the user chose.
    """
    anonymous = msgspec.structs.replace(route, token=None)
    hubs = {"huggingface": settings.DEFAULT_ENDPOINT, **settings.MIRRORS}
    ways = {
        name: msgspec.structs.replace(anonymous, endpoint=url, modelscope=name == "modelscope")
        for name, url in hubs.items()
        if url != route.endpoint
    }
    if answer is not None and answer.stage == "proxy":
        ways["direct"] = msgspec.structs.replace(anonymous, proxy_for=lambda _: None)
    bundle = settings.system_bundle(route.ca)
    if answer is not None and answer.certificate and bundle:
        ways["system-ca"] = msgspec.structs.replace(anonymous, ca=bundle)
    return ways


def _started(jobs: list[Callable[[], None]]) -> list[threading.Thread]:
    threads = [threading.Thread(target=job, name="hub-question", daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    return threads


def _joined(threads: list[threading.Thread], deadline: float) -> None:
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
