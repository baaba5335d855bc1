"""Faults of data that were tokenised before (tokenized_path): made for another model or stage, or not whole."""

from __future__ import annotations

import subprocess
from typing import Any

from tests.faults.catalogue.recipe import VALIDATED
from tests.faults.fault import Fault, Inject
from tests.faults.workspace import Workspace

CURRENT = "current full"
IDS = {"input_ids": [[1, 2, 3]] * 8, "attention_mask": [[1, 1, 1]] * 8, "labels": [[1, 2, 3]] * 8}


def tokenised(columns: dict[str, Any], splits: bool = True, **recipe: Any) -> Inject:
    """Written by the environment's own `datasets`."""
    made = f"datasets.Dataset.from_dict({columns!r})"
    made = f"datasets.DatasetDict(train={made})" if splits else made
    code = f"import datasets; {made}.save_to_disk('data/tokenised')"

    def inject(place: Workspace) -> None:
        subprocess.run([str(place.environment.python), "-c", code], cwd=place.root, check=True, capture_output=True)
        place.set_recipe(tokenized_path="data/tokenised", **recipe)

    return inject


def other_ids(column: str, ids: list[Any]) -> Inject:
    return tokenised({**IDS, column: [ids] * 8})


FAULTS = [
    Fault("tokens-of-another-model", "tok-ids-out-of-range", "ids beyond the embedding in tokenized_path",
          other_ids("input_ids", [1, 2, 900])),
    Fault("tokens-of-another-model-current", "tok-ids-out-of-range", "ids beyond the embedding in tokenized_path",
          other_ids("input_ids", [1, 2, 900]), CURRENT),
    Fault("labels-of-another-model", "tok-ids-out-of-range", "labels beyond the embedding in tokenized_path",
          other_ids("labels", [1, 2, 700])),
    Fault("tokens-negative", "tok-ids-out-of-range", "an id below zero in tokenized_path",
          other_ids("input_ids", [1, -2, 3]), CURRENT),
    Fault("tokens-without-labels", "data-cache-corrupt", "tokenised data without labels",
          tokenised({name: IDS[name] for name in ("input_ids", "attention_mask")})),
    Fault("tokens-for-sft-in-dpo", "data-cache-corrupt", "tokenised for sft, trained as dpo",
          tokenised(IDS, stage="dpo"), healable=False),
    Fault("tokens-without-splits", "data-cache-corrupt", "a tokenised set without splits", tokenised(IDS, splits=False)),
    Fault("tokens-as-fractions", "data-cache-corrupt", "token ids as fractions",
          other_ids("input_ids", [1.5, 2.0, 3.0]), CURRENT),
    Fault("tokens-without-validation", "cfg-eval-without-val", "evaluation of tokenised data that have no split for it",
          tokenised(IDS, **VALIDATED)),
]  # fmt: skip
