"""Lists and fetches the files of a model from the hub that answers: Hugging Face, a mirror of it, or ModelScope."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from urllib.parse import quote

import httpx
import tenacity

from doctor import redact
from fixes.errors import Failed, Refused

HUGGING_FACE = ("https://huggingface.co", "https://hf-mirror.com")
MODELSCOPE = "https://www.modelscope.cn"
LIMITS = httpx.Timeout(30.0, connect=5.0)  # seconds
ATTEMPTS = 5
# Weights in other formats beside safetensors, which transformers does not load then.
_OTHER_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.gguf", "*.h5", "*.msgpack", "*.ot", "original/*", "onnx/*", "openvino/*")


@dataclass(frozen=True)
class RemoteFile:
    """One file of a model. `sha256` is known for large files; `size` in bytes."""

    name: str
    size: int
    sha256: str | None = None

    def is_at(self, path: Path) -> bool:
        """Whether `path` is this file, by size and, where known, hash."""
        if not path.is_file() or path.stat().st_size != self.size:
            return False
        return self.sha256 is None or _sha256(path) == self.sha256


@dataclass(frozen=True)
class Listing:
    """A model as one hub has it. `modelscope`: that hub's own API instead of Hugging Face's."""

    endpoint: str
    repo: str
    revision: str
    files: tuple[RemoteFile, ...]
    modelscope: bool = False

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.files)


def find(repo: str, environ: Mapping[str, str]) -> Listing:
    """The listing from the first hub that has the model. Raises Refused with what each hub said."""
    token = environ.get("HF_TOKEN") or environ.get("HUGGING_FACE_HUB_TOKEN")
    mirrors = [environ["HF_ENDPOINT"].rstrip("/")] if environ.get("HF_ENDPOINT") else list(HUGGING_FACE)
    domain = environ.get("MODELSCOPE_DOMAIN", "")
    scope = domain if "://" in domain else f"https://{domain}" if domain else MODELSCOPE
    questions = [(url, partial(_hugging_face, url, repo, token)) for url in mirrors]
    ours = (scope, partial(_modelscope, scope, repo))
    asks_modelscope_first = environ.get("USE_MODELSCOPE_HUB", "0").lower() in ("1", "true")
    questions = [ours, *questions] if asks_modelscope_first else [*questions, ours]
    said = []
    for endpoint, ask in questions:
        try:
            return ask()
        except httpx.HTTPStatusError as error:
            said.append(f"{endpoint}: {_status(error.response.status_code)}")
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            said.append(f"{endpoint}: {redact.text(str(error)) or type(error).__name__}")
    raise Refused(f"{repo} cannot be downloaded; " + "; ".join(said) + ". Download it elsewhere and give --model PATH.")


def _status(code: int) -> str:
    known = {
        401: "401, not found or a token is needed",
        403: "403, access must be granted first",
        404: "404, not found",
    }
    return known.get(code, str(code))


def _hugging_face(endpoint: str, repo: str, token: str | None) -> Listing:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    answer = httpx.get(
        f"{endpoint}/api/models/{quote(repo)}",
        params={"blobs": "true"},
        headers=headers,
        timeout=LIMITS,
        follow_redirects=True,
    )
    answer.raise_for_status()
    document = answer.json()
    files = [
        RemoteFile(item["rfilename"], int(item["size"]), (item.get("lfs") or {}).get("sha256"))
        for item in document["siblings"]
    ]
    return Listing(endpoint, repo, document["sha"], _needed(files))


def _modelscope(endpoint: str, repo: str) -> Listing:
    query = {"Revision": "master", "Recursive": "true"}
    answer = httpx.get(
        f"{endpoint}/api/v1/models/{quote(repo)}/repo/files", params=query, timeout=LIMITS, follow_redirects=True
    )
    answer.raise_for_status()
    items = answer.json()["Data"]["Files"]
    files = [RemoteFile(i["Path"], int(i["Size"]), i.get("Sha256") or None) for i in items if i.get("Type") != "tree"]
    return Listing(endpoint, repo, "master", _needed(files), modelscope=True)


def _needed(files: list[RemoteFile]) -> tuple[RemoteFile, ...]:
    """Without what training does not read; refuses names that would leave the directory."""
    for file in files:
        if file.name.startswith("/") or ".." in Path(file.name).parts:
            raise ValueError(f"the hub lists a file with the name {file.name!r}")
    skip = _OTHER_WEIGHTS if any(file.name.endswith(".safetensors") for file in files) else ()
    return tuple(f for f in files if f.name != ".gitattributes" and not any(fnmatch(f.name, p) for p in skip))


def fetch(listing: Listing, names: list[RemoteFile], into: Path, environ: Mapping[str, str]) -> None:
    """Bring files into a directory, resuming what lies there, and prove size and hash. Raises Refused or Failed."""
    into.mkdir(parents=True, exist_ok=True)
    missing = sum(f.size for f in names) - sum(p.stat().st_size for p in into.rglob("*") if p.is_file())
    free = shutil.disk_usage(into).free
    if missing > free:
        raise Refused(
            f"{listing.repo} needs {missing / 1e9:.1f} GB in {into.parent}, where {free / 1e9:.1f} GB are free."
        )
    fetched = _retrying(_fetch_modelscope if listing.modelscope else _fetch_hugging_face)
    try:
        fetched(listing, names, into, environ)
    except (httpx.HTTPError, OSError) as error:
        raise Failed(
            f"The download of {listing.repo} broke off ({redact.text(str(error))}); run fix again to go on."
        ) from None
    for file in names:
        if not file.is_at(into / file.name):
            (into / file.name).unlink(missing_ok=True)
            raise Failed(f"{file.name} of {listing.repo} arrived damaged; run fix again to fetch it anew.")


def _retrying(function: Callable[..., None]) -> Callable[..., None]:
    return tenacity.retry(
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=tenacity.wait_exponential(multiplier=0.5, max=20),
        retry=tenacity.retry_if_exception(_is_passing),
        reraise=True,
    )(function)


def _is_passing(error: BaseException) -> bool:
    """Worth another try: a broken connection or a server's own error, not a refusal and not a full disk."""
    response = getattr(error, "response", None)
    if response is not None:
        return bool(response.status_code >= 500 or response.status_code == 429)
    return isinstance(error, (httpx.TransportError, ConnectionError))


def _fetch_hugging_face(listing: Listing, names: list[RemoteFile], into: Path, environ: Mapping[str, str]) -> None:
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(
            listing.repo,
            revision=listing.revision,
            local_dir=into,
            allow_patterns=[file.name for file in names],
            endpoint=listing.endpoint,
            token=environ.get("HF_TOKEN") or environ.get("HUGGING_FACE_HUB_TOKEN") or None,
        )
    except Exception as error:
        # Its HTTP library was requests, then httpx, then httpx2: the errors have their names in common, no class.
        if any(kind.__name__ in ("TransportError", "RequestException") for kind in type(error).__mro__):
            raise ConnectionError(str(error)) from error
        raise


def _fetch_modelscope(listing: Listing, names: list[RemoteFile], into: Path, environ: Mapping[str, str]) -> None:
    url = f"{listing.endpoint}/api/v1/models/{quote(listing.repo)}/repo"
    with httpx.Client(timeout=LIMITS, follow_redirects=True) as client:
        for file in names:
            place = into / file.name
            place.parent.mkdir(parents=True, exist_ok=True)
            have = place.stat().st_size if place.exists() else 0
            if have >= file.size and place.exists():
                continue
            print(f"{file.name}: {file.size / 1e6:.0f} MB", file=sys.stderr)
            query = {"Revision": listing.revision, "FilePath": file.name}
            headers = {"accept-encoding": "identity", **({"range": f"bytes={have}-"} if have else {})}
            with client.stream("GET", url, params=query, headers=headers) as answer:
                answer.raise_for_status()
                with place.open("ab" if answer.status_code == 206 else "wb") as stream:
                    for block in answer.iter_bytes():
                        stream.write(block)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
