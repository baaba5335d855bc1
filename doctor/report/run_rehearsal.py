"""What a run's record tells of its rehearsal, in words: for the page and for Markdown."""

from __future__ import annotations

from doctor.report import run_words, words
from doctor.report.run_record import Rehearsal, Stage

_NOTHING = "not rehearsed"  # the verdict where nothing could be run
_STAGES = ("model", "train", "evaluate", "save", "resume", "load")


def sentence(found: Rehearsal, lang: str) -> str:
    """The verdict."""
    failed = "rehearsal_nothing" if found.verdict == _NOTHING else "rehearsal_failed"
    return run_words.say("rehearsed" if found.passed else failed, lang, seconds=_seconds(found.seconds, lang))


def unknown(found: Rehearsal) -> str:
    """What a failure of unknown cause said; empty where there is none."""
    parts = (str((found.unrecognised or {}).get(name) or "") for name in ("exception", "message"))
    return ": ".join(part for part in parts if part)


def stage(one: Stage, lang: str) -> dict[str, str]:
    """A stage as it is shown: its name, state, result, seconds."""
    state = "skipped" if one.skipped else "passed" if one.passed else "not_passed"
    why = one.skipped
    reason = (why.get(lang) or why.get("en", "")) if isinstance(why, dict) else why
    name = words.say(f"stage_{one.id}", lang) if one.id in _STAGES else one.id
    result = run_words.say(state, lang, reason=reason)
    return {"name": name, "state": state, "result": result, "seconds": _seconds(one.seconds, lang)}


def _seconds(value: float | None, lang: str) -> str:
    return "–" if value is None else run_words.duration(value, lang)
