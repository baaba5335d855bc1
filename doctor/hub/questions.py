"""What is asked of a hub in one examination: the endpoint for each thing needed, the mirrors where it does not answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from urllib.parse import urljoin, urlsplit

import msgspec

from doctor.hub import settings
from doctor.hub.connection import Answer, ask

TOTAL_SECONDS = 3.5  # of the 5 s that a check may take; the mirrors are asked within it
MIRRORS_AFTER = 1.2  # seconds of silence of the endpoint after which the mirrors are asked beside it
_REDIRECTS = 2

Ask = Callable[..., Answer]


class Need(msgspec.Struct, frozen=True):
    """A model or dataset that only a hub has. `kind` is model or dataset, `key` the recipe key that names it."""

    kind: str
    name: str
    key: str
    revision: str = "main"

    def path(self) -> str:
        """The smallest file that tells whether it can be had: config.json of a model, the card of a dataset."""
        prefix, file = ("datasets/", "README.md") if self.kind == "dataset" else ("", "config.json")
        return f"/{prefix}{self.name}/resolve/{self.revision}/{file}"


class Route(msgspec.Struct, frozen=True):
    """How the target's client would connect."""

    endpoint: str
    token: str | None
    proxy_for: Callable[[str], str | None]
    ca: str | None


def head(route: Route, path: str, seconds: float, asking: Ask = ask) -> Answer:
    """HEAD with the redirects that huggingface_hub follows: those on the same host (renamed repositories)."""
    url = route.endpoint + path
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
    """(an answer for each need, in order; None where none came in time), ({mirror: its answer} where it was asked)."""
    deadline = time.monotonic() + TOTAL_SECONDS
    answers: list[Answer | None] = [None] * len(needs)
    mirrors: dict[str, Answer] = {}

    def work(place: int) -> None:
        answers[place] = head(route, needs[place].path(), deadline - time.monotonic(), asking)

    workers = _started([partial(work, place) for place in range(len(needs))])
    _joined(workers, time.monotonic() + MIRRORS_AFTER)
    first = next(iter(needs), None)
    if first is not None and first.kind == "model" and not all(a is not None and a.answered for a in answers):

        def try_mirror(name: str, url: str) -> None:
            path = first.path() if name != "modelscope" else f"/models/{first.name}"
            anonymous = msgspec.structs.replace(route, endpoint=url, token=None)
            mirrors[name] = head(anonymous, path, deadline - time.monotonic(), asking)

        others = {"huggingface": settings.DEFAULT_ENDPOINT, **settings.MIRRORS}
        workers += _started([partial(try_mirror, name, url) for name, url in others.items() if url != route.endpoint])
    _joined(workers, deadline)
    return list(answers), dict(mirrors)


def _started(jobs: list[Callable[[], None]]) -> list[threading.Thread]:
    threads = [threading.Thread(target=job, name="hub-question", daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    return threads


def _joined(threads: list[threading.Thread], deadline: float) -> None:
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
