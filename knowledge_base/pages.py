"""Generates docs/causes: one page per cause in both languages, and an index by area, from the same texts.

python -m knowledge_base.pages docs/causes            write them
python -m knowledge_base.pages docs/causes --check    exit 1 and name the pages that are not current
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from knowledge_base import load, offers
from knowledge_base.schema import Cause, Fix, Text

_WHAT_HEALS = Text("What heals it", "怎样修复")
_DOES_NOT_HELP = Text("What does not help", "哪些做法无效")
_KIND_OF = Text("Filed under", "归入")
_AFFECTED = Text("Affected versions", "受影响的版本")
_STANDS_BEHIND = {
    "run": Text("seen in a run of real packages", "在真实软件包的运行中见到"),
    "source": Text("read in the source or the documentation", "读自源码或文档"),
    "thread": Text("confirmed in a linked thread", "在所附讨论中得到确认"),
    "hearsay": Text("reported, not verified", "仅有传闻，未经验证"),
}


def page(cause: Cause) -> str:
    """The Markdown page of one cause: English, Chinese, how it shows in logs, links."""
    parts = [f"# {cause.id}", *_section(cause, "en"), "---", *_section(cause, "zh")]
    if cause.signatures:
        shown = "\n".join(f"    {signature.pattern}" for signature in cause.signatures)
        parts += ["---", "## In logs · 日志特征", shown]
    parts += ["## References · 参考", "\n".join(f"- <{link}>" for link in cause.references)]
    return "\n\n".join(parts) + "\n"


def _section(cause: Cause, lang: str) -> Iterator[str]:
    yield f"**{_words(cause.title, lang)}** · `{cause.severity.value}`"
    if cause.kind_of:
        yield f"{_KIND_OF.in_language(lang)} [{cause.kind_of}](../{load.area(cause.kind_of)}/{cause.kind_of}.md)"
    yield cause.why.in_language(lang).strip()
    if cause.affected:
        yield f"{_AFFECTED.in_language(lang)}: " + ", ".join(
            f"`{name} {spec}`" for name, spec in cause.affected.items()
        )
    if cause.fixes:
        yield f"## {_WHAT_HEALS.in_language(lang)}"
        yield "\n".join(_fix(fix, lang) for fix in cause.fixes)
    if cause.does_not_help:
        yield f"## {_DOES_NOT_HELP.in_language(lang)}"
        yield "\n".join(f"- {_words(a.what, lang)} — {a.why.in_language(lang).strip()}" for a in cause.does_not_help)


def _fix(fix: Fix, lang: str) -> str:
    proof = "; ".join(f"✓ {p.stack} ({p.reproduction})" for p in fix.verified_on)
    behind = proof or _STANDS_BEHIND[fix.evidence.value].in_language(lang)
    return f"- `{fix.id}` ({fix.class_.value}): {_words(fix.title, lang)} — {behind}"


def _words(text: Text, lang: str) -> str:
    return offers.title(text, {}, lang)


def index(causes: list[Cause]) -> str:
    """The index by area."""
    parts = ["# Causes · 原因", f"{len(causes)} causes. Generated from `knowledge_base/causes`; do not edit."]
    for area, members in groupby(causes, key=lambda cause: load.area(cause.id)):
        rows = [f"- [{c.id}]({area}/{c.id}.md) — {_words(c.title, 'en')} · {_words(c.title, 'zh')}" for c in members]
        parts += [f"## {area}", "\n".join(rows)]
    return "\n\n".join(parts) + "\n"


def pages() -> dict[str, str]:
    """Relative path -> content of everything under docs/causes."""
    causes = sorted(load.all_causes(), key=lambda cause: (load.area(cause.id), cause.id))
    return {"README.md": index(causes), **{f"{load.area(c.id)}/{c.id}.md": page(c) for c in causes}}


def stale(folder: Path) -> list[str]:
    """Pages that are missing, outdated, or of a cause that is no more."""
    wanted = pages()
    there = {str(path.relative_to(folder)): path for path in folder.rglob("*.md")}
    return sorted(
        name
        for name in wanted.keys() | there.keys()
        if name not in wanted or name not in there or there[name].read_text(encoding="utf-8") != wanted[name]
    )


def write(folder: Path) -> None:
    for name in stale(folder):
        (folder / name).unlink(missing_ok=True)
    for name, content in pages().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")


def main(arguments: list[str]) -> int:
    folder = Path(arguments[0])
    if "--check" not in arguments:
        write(folder)
        return 0
    outdated = stale(folder)
    for name in outdated:
        print(f"{folder / name} is not current; run `make docs`", file=sys.stderr)
    return 1 if outdated else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
