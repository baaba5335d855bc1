from __future__ import annotations

import codecs

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fixes.edit import yaml_text
from fixes.errors import CannotEdit
from tests.fixes.worlds import RECIPE

NAMES = st.from_regex(r"[a-z_]{1,12}", fullmatch=True).filter(lambda k: yaml.safe_load(k) == k)
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=20)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**9), 10**9), st.floats(allow_nan=False, allow_infinity=False), TEXT
)
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=3), st.dictionaries(NAMES, SCALARS, max_size=3))
COMMENTS = st.sampled_from(["", "  # a note", "  # 备注: 值"])


@st.composite
def recipes(draw: st.DrawFn) -> tuple[str, list[str]]:
    """The text of a recipe in mixed styles, and its keys."""
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    keys = draw(st.lists(NAMES, min_size=1, max_size=6, unique=True))
    lines = []
    for key in keys:
        style = draw(st.sampled_from([None, "'", '"', "block", "empty"]))
        if style == "empty":
            lines.append(f"{key}:" + draw(COMMENTS))
        elif style == "block":
            items = draw(st.lists(st.integers(), min_size=1, max_size=3))
            lines.append(newline.join([f"{key}:", *(f"  - {item}{draw(COMMENTS)}" for item in items)]))
        else:
            value = draw(SCALARS)
            written = yaml.safe_dump(value, width=10**9, allow_unicode=True, default_style=style)
            lines.append(f"{key}: {written.removesuffix(chr(10)).removesuffix('...').rstrip()}" + draw(COMMENTS))
        if draw(st.booleans()):
            lines.append(draw(st.sampled_from(["", "### section", "# 段落"])))
    return newline.join(lines) + draw(st.sampled_from(["", newline])), keys


@given(recipes(), NAMES, VALUES)
def test_setting_a_value_changes_that_key_and_nothing_else(
    recipe: tuple[str, list[str]], name: str, value: object
) -> None:
    text, keys = recipe
    before = yaml.safe_load(text)
    for key in (keys[0], name):
        after = yaml_text.set_values(text.encode(), {key: value}).decode()
        assert yaml.safe_load(after) == {**before, key: value}
        if key in before:
            _only_one_span_differs(text, after)
        else:
            assert after.startswith(text)


def _only_one_span_differs(before: str, after: str) -> None:
    """What lies before and after the edited key's lines is byte for byte the same."""
    start = next(
        (i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after))
    )
    rest = min(len(before), len(after)) - start
    end = next((i for i in range(rest) if before[-1 - i] != after[-1 - i]), rest)
    changed = before[start : len(before) - end]
    assert changed.count("###") == 0
    assert changed.count("段落") == 0


@given(recipes())
def test_unset_and_rename_keep_the_other_keys(recipe: tuple[str, list[str]]) -> None:
    text, keys = recipe
    before = yaml.safe_load(text)
    after = yaml.safe_load(yaml_text.unset(text.encode(), [keys[-1]]).decode()) or {}
    assert after == {k: v for k, v in before.items() if k != keys[-1]}
    renamed = yaml.safe_load(yaml_text.rename(text.encode(), keys[0], "a_new_name_of_it").decode())
    assert renamed == {("a_new_name_of_it" if k == keys[0] else k): v for k, v in before.items()}


@pytest.mark.parametrize(
    ("before", "values", "after"),
    [
        ("template: qwen25  # 模板\nx: 1\n", {"template": "qwen"}, "template: qwen  # 模板\nx: 1\n"),
        ("a: 'b'\n", {"a": "c"}, "a: 'c'\n"),
        ('a: "b"  # c\n', {"a": "d e"}, 'a: "d e"  # c\n'),
        ("a: 1", {"b": 2}, "a: 1\nb: 2\n"),
        ("a: 1\r\nb: 2\r\n", {"a": 3, "c": True}, "a: 3\r\nb: 2\r\nc: true\r\n"),
        ("a:   # later\n", {"a": "x"}, "a: x   # later\n"),
        ("lr: 1.0e-5\n", {"lr": 1e-5}, "lr: 1.0e-5\n"),
        ("lr: 1e-5\n", {"lr": 1e-5}, "lr: 1.0e-05\n"),
        ("report_to: wandb\n", {"report_to": "none"}, "report_to: none\n"),
        ("eval_strategy: steps\n", {"eval_strategy": "no"}, "eval_strategy: 'no'\n"),
        ("a: &x 1\nb: *x\n", {"b": 2}, "a: &x 1\nb: 2\n"),
        ("{a: 1, b: 2}\n", {"b": 3, "c": 4}, "{a: 1, b: 3, c: 4}\n"),
        ("  a: 1\n  b: 2\n", {"c": 3}, "  a: 1\n  b: 2\n  c: 3\n"),
        ("# nothing yet\n", {"a": 1}, "# nothing yet\na: 1\n"),
        ("", {"a": 1}, "a: 1\n"),
        ("a:\n- 1\n- 2  # two\n\n### next\nb: 1\n", {"a": None}, "a: null  # two\n\n### next\nb: 1\n"),
        ("a: 1\n...\n", {"b": 2}, "a: 1\nb: 2\n...\n"),
    ],
)
def test_smallest_edit(before: str, values: dict[str, object], after: str) -> None:
    assert yaml_text.set_values(before.encode(), values).decode() == after


def test_unset_takes_the_line_with_its_comment() -> None:
    assert yaml_text.unset(RECIPE.encode(), ["deepspeed", "absent"]).decode() == RECIPE.replace(
        "deepspeed: ds.json  # choices: [ds_z0_config.json, ds_z2_config.json]\n", ""
    )


def test_byte_order_mark_stays() -> None:
    data = codecs.BOM_UTF8 + b"a: 1\r\n"
    assert yaml_text.set_values(data, {"a": 2}) == codecs.BOM_UTF8 + b"a: 2\r\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"a: [1\n", "not valid YAML"),
        (b"- 1\n", "not a mapping"),
        (b"a: \xff\n", "not UTF-8"),
        (b"a: &x 1\nb: *x\n", "cannot be edited safely"),
    ],
)
def test_what_cannot_be_edited_is_refused(text: bytes, says: str) -> None:
    with pytest.raises(CannotEdit, match=says):
        yaml_text.set_values(text, {"a": 2})


def test_rename_refuses_two_values() -> None:
    with pytest.raises(CannotEdit, match="both"):
        yaml_text.rename(b"a: 1\nb: 2\n", "a", "b")
    assert yaml_text.rename(b"a: 1\nb: 1\n", "a", "b") == b"b: 1\n"
    assert yaml_text.rename(b"'a': 1  # c\n", "a", "b") == b"'b': 1  # c\n"
