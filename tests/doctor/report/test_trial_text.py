"""The picture of lengths and the parser's verdict, as they stand in a terminal."""

import io

import pytest
from rich.console import Console

from doctor.recipe import lengths
from doctor.report.trial_text import trial

WHOLE = [10, 20, 20, 40, 900]


def shown(told, lang="en"):
    out = io.StringIO()
    trial(Console(file=out, width=120, color_system=None), told, lang)
    return out.getvalue()


def entry(cutoff):
    import msgspec

    found = lengths.summarise(WHOLE, [min(n, cutoff) for n in WHOLE], [5, 5, 5, 0, 5], cutoff, 700, True)
    return msgspec.to_builtins(found)


def test_a_bar_for_every_range_and_the_figures_in_words():
    text = shown({"lengths": {"sky": entry(512)}})
    assert "5 of 700 records" in text
    assert "median 20, 99 % within 900, longest 900; cutoff_len 512 cuts 1, 1 keep nothing" in text
    assert text.count("–") == len(lengths.bars(sorted(WHOLE)))
    assert "█" * 40 in text


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_what_is_unknown_is_said(lang):
    text = shown({"parser": {"unknown": "it hung"}, "lengths": {"sky": {"unknown": "on a hub"}}}, lang)
    assert "it hung" in text
    assert "sky: on a hub" in text


def test_the_cutoff_that_would_fit_stays_within_the_model():
    found = lengths.summarise(WHOLE, WHOLE, WHOLE, 30, 5, True)
    assert lengths.fitting_cutoff(found, None) == 960
    assert lengths.fitting_cutoff(found, 512) == 512
    assert lengths.fitting_cutoff(found, 30) is None
    assert (found.cut, round(found.lost, 2)) == (2, 0.0)
