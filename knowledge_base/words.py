"""The literal words that a text must hold for a pattern to match in it.

Searching a long log for hundreds of patterns is slow; searching it for the words that they cannot match without is
fast. `required` finds, for one RE2 pattern, a set of words of which at least one must occur wherever the pattern
matches.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Any

# The parser of Python's own `re`: private, but the only one that gives a syntax tree, and patterns that it cannot read
# merely have no words (they are then tried on every line, which tests/knowledge_base/test_drift.py forbids).
if sys.version_info >= (3, 11):
    from re import _parser as parser  # type: ignore[attr-defined]
else:
    import sre_parse as parser

SHORTEST = 4  # bytes; a shorter word occurs everywhere
MOST = 24  # alternatives; more of them are no help
PRODUCT = 16  # alternatives of one run
ANY_CASE = re.compile(r"\(\?[a-zA-Z]*i[a-zA-Z]*[:)-]")

Words = tuple[str, ...]


def any_case(pattern: str) -> bool:
    """Whether the pattern, or a part of it, ignores case."""
    return ANY_CASE.search(pattern) is not None


def required(pattern: str) -> Words:
    """Words of which one must occur in a match; empty when the pattern demands none of a useful length.

    Lower case when the pattern ignores case.
    """
    try:
        tree = parser.parse(pattern)
    except (re.error, OverflowError):
        return ()
    words = _best(_candidates(tree))
    return tuple(sorted({word.lower() for word in words})) if any_case(pattern) else words


def shortest(pattern: str) -> int:
    """Letters of the shortest text that the pattern matches; 0 for one that only RE2 can read."""
    try:
        return int(parser.parse(pattern).getwidth()[0])
    except (re.error, OverflowError):
        return 0


# What every training log says all the time: a word out of it finds nothing. Lines as transformers, tqdm and DeepSpeed
# print them.
EVERYDAY = """
{'loss': 0.1234, 'grad_norm': 0.1234, 'learning_rate': 1.23e-05, 'epoch': 0.12} 12%|█▏ | 12/100 [00:12<01:23, 1.23s/it]
[INFO|trainer.py:3801] 2026-11-23 19:01:41,966 >> Saving model checkpoint to /data/out/checkpoint-100
[2026-11-23 19:01:41,903] [INFO] [torch_checkpoint_engine.py:23:save] [Torch] Saved /data/out/global_step4
zero_pp_rank_0_mp_rank_00_optim_states.pt
tokenizer config file saved in; Special tokens file saved; Model weights saved; Configuration saved; step done overflow
  File "/opt/env/lib/python3.11/site-packages/transformers/trainer.py", line 2123, in train deepspeed accelerate torch
Error: RuntimeError: ValueError: Exception: WARNING llamafactory llmtuner huggingface.co
"""


def _best(candidates: Iterable[Words]) -> Words:
    useful = [words for words in candidates if words and len(words) <= MOST and min(map(_length, words)) >= SHORTEST]
    return max(useful, key=_worth, default=())


def _worth(words: Words) -> tuple[bool, int, Words]:
    rare = not any(word.strip() in EVERYDAY or word.strip() in EVERYDAY.lower() for word in words)
    return rare, min(map(_length, words)) - 2 * len(words), words


def _length(word: str) -> int:
    return len(word.encode())


def _candidates(tree: Any) -> list[Words]:
    """Every set of words that the sequence demands: runs of literals with their alternatives, what its parts demand."""
    found: list[Words] = []
    run: Words = ("",)
    for op, value in tree:
        exact = _exact(op, value)
        if exact is not None and len(run) * len(exact) <= PRODUCT:
            run = tuple(begun + end for begun in run for end in exact)
            continue
        name = str(op)
        if name in ("MAX_REPEAT", "MIN_REPEAT") and value[0] >= 1 and (once := _sequence(value[2])) is not None:
            if len(run) * len(once) <= PRODUCT:  # the first repetition stands behind the run, the last before the rest
                run = tuple(begun + end for begun in run for end in once)
            found.append(run)
            run = once
            continue
        found.append(run)
        if name == "BRANCH":  # the parser takes what all branches begin with out of them
            heads = tuple(head for branch in value[1] for head in _head(branch))
            if "" not in heads and len(run) * len(heads) <= PRODUCT:
                found.append(tuple(begun + head for begun in run for head in heads))
        run = exact if exact is not None and len(exact) <= PRODUCT else ("",)
        if name == "SUBPATTERN":
            found.extend(_candidates(value[3]))
        elif name == "BRANCH":
            branches = [_best(_candidates(branch)) for branch in value[1]]
            if all(branches):
                found.append(tuple(sorted({word for words in branches for word in words})))
        elif name in ("MAX_REPEAT", "MIN_REPEAT") and value[0] >= 1:
            found.extend(_candidates(value[2]))
    return [*found, run]


def _exact(op: Any, value: Any) -> Words | None:
    """All texts that a part matches, when they are few."""
    name = str(op)
    if name == "LITERAL":
        return (chr(value),)
    if name == "SUBPATTERN":
        return _sequence(value[3])
    if name == "BRANCH":
        branches = [_sequence(branch) for branch in value[1]]
        return None if None in branches else tuple(text for texts in branches if texts for text in texts)
    if name == "IN" and len(value) <= 3 and all(str(kind) == "LITERAL" for kind, _ in value):
        return tuple(chr(code) for _, code in value)
    if name in ("MAX_REPEAT", "MIN_REPEAT") and value[:2] == (0, 1) and (inner := _sequence(value[2])) is not None:
        return ("", *inner)
    return None


def _head(tree: Any) -> Words:
    """What a text that the sequence matches begins with."""
    run: Words = ("",)
    for op, value in tree:
        exact = _exact(op, value)
        if exact is None and str(op) == "MAX_REPEAT" and value[0] >= 1:
            exact = _sequence(value[2])
            return run if exact is None else tuple(begun + end for begun in run for end in exact)
        if exact is None or len(run) * len(exact) > PRODUCT:
            break
        run = tuple(begun + end for begun in run for end in exact)
    return run


def _sequence(tree: Any) -> Words | None:
    texts: Words = ("",)
    for op, value in tree:
        exact = _exact(op, value)
        if exact is None or len(texts) * len(exact) > PRODUCT:
            return None
        texts = tuple(begun + end for begun in texts for end in exact)
    return texts
