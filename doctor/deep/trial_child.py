"""Runs in the target's interpreter: the release's own argument parser, then its own tokenisation of a sample.

    python trial_child.py < first line of standard input: the order, as JSON; its end means that nobody waits any more

One JSON object on each line of standard output, {"stage": "parser" | "sample" | "lengths", ...}; what the libraries
print goes to standard error. Imports nothing of the doctor.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from typing import Any

HUGE = 1 << 30  # a cutoff_len that cuts nothing


def main() -> None:
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=leave_when_alone, daemon=True).start()
    said = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries print what they like

    def tell(stage: str, **content: Any) -> None:
        said.write(json.dumps({"stage": stage, **content}) + "\n")
        said.flush()

    sys.argv = ["llamafactory-cli", *order["argv"]]
    begun = time.monotonic()
    during = "import"
    try:
        if order["world"]:
            pretend(order["world"])
        from llamafactory.train import tuner  # what torchrun starts, with everything that it imports

        during, begun = "parse", time.monotonic()
        arguments = tuner.get_train_args(None)
    except BaseException as error:  # noqa: BLE001 - SystemExit of argparse is a verdict, too
        traceback.print_exc()
        tell("parser", accepted=False, during=during, **described(error), seconds=round(time.monotonic() - begun, 2))
        arguments = None
        if during == "import":
            return
    else:
        training = arguments[2]
        tell(
            "parser",
            accepted=True,
            during=during,
            seconds=round(time.monotonic() - begun, 2),
            world_size=training.world_size,
            device=str(training.device),
        )
    if order["sample"]:
        try:
            lengths(order["sample"], arguments, tell)
        except BaseException as error:  # noqa: BLE001 - told to whoever waits
            traceback.print_exc()
            tell("sample", **described(error))


def leave_when_alone() -> None:
    sys.stdin.read()
    os._exit(1)


def pretend(world: dict[str, int]) -> None:
    """Be rank 0 of `world["size"]` processes without the others: torch's fake backend answers for them."""
    import torch.distributed
    from torch.testing._internal.distributed.fake_pg import FakeStore

    real = torch.distributed.init_process_group

    def init_process_group(*arguments: Any, **named: Any) -> None:
        real(backend="fake", rank=world["rank"], world_size=world["size"], store=FakeStore())

    torch.distributed.init_process_group = init_process_group
    torch.distributed.distributed_c10d.init_process_group = init_process_group


def described(error: BaseException) -> dict[str, Any]:
    """Exception, message, and the innermost place in the packages that judge the arguments."""
    where = None
    for frame in traceback.extract_tb(error.__traceback__):
        for package in ("llamafactory", "transformers", "accelerate", "deepspeed"):
            if f"{os.sep}{package}{os.sep}" in frame.filename:
                where = f"{package}{frame.filename.rsplit(os.sep + package, 1)[1]}:{frame.lineno}"
    return {"exception": type(error).__name__, "message": str(error), "where": where}


def lengths(sample: dict[str, Any], arguments: Any, tell: Any) -> None:
    """The records of the sample as the release's own converter, template and preprocessing make tokens of them."""
    if arguments is None:  # the recipe was refused: its settings of data and model alone
        from llamafactory.hparams import get_train_args

        arguments = get_train_args(dict(sample["values"]))
    model_args, data_args, training_args, finetuning_args = arguments[:4]
    from llamafactory.data import loader
    from llamafactory.data.parser import get_dataset_list
    from llamafactory.data.template import get_template_and_fix_tokenizer
    from llamafactory.model import load_tokenizer

    loaded = load_tokenizer(model_args)
    tokenizer, processor = loaded["tokenizer"], loaded["processor"]
    data_args.dataset_dir = sample["dataset_dir"]
    data_args.max_samples, data_args.streaming, data_args.packing, data_args.neat_packing = None, False, False, False
    data_args.preprocessing_num_workers = None
    model_args.cache_dir = sample["cache_dir"]
    template = get_template_and_fix_tokenizer(tokenizer, data_args)
    stage = {"dpo": "rm"}.get(finetuning_args.stage, finetuning_args.stage)
    cutoff = data_args.cutoff_len
    encode = encoder(loader, data_args, stage, template, tokenizer, processor)
    names = list(sample["entries"])
    for name, attributes in zip(names, get_dataset_list(names, data_args.dataset_dir), strict=True):
        until = time.monotonic() + sample["seconds"] / len(names)
        try:
            rows = loader._load_single_dataset(attributes, model_args, data_args, training_args)
            step = max(1, -(-len(rows) // sample["records"]))
            rows = rows.select(range(0, len(rows), step)) if step > 1 else rows
            measured(name, rows, encode, data_args, cutoff, until, tell, step)
        except Exception as error:  # noqa: BLE001 - one entry; the others are told
            traceback.print_exc()
            tell("lengths", entry=name, error=described(error))


def encoder(loader: Any, data_args: Any, stage: str, template: Any, tokenizer: Any, processor: Any) -> Any:
    """One record in columns of one item -> its row in columns, by the release's own preprocessing."""
    if hasattr(loader, "_get_dataset_processor"):  # 0.9.2 and later
        return loader._get_dataset_processor(data_args, stage, template, tokenizer, processor).preprocess_dataset
    from llamafactory.data.preprocess import get_preprocess_and_print_func

    return get_preprocess_and_print_func(data_args, stage, template, tokenizer, processor)[0]


def measured(
    name: str, rows: Any, encode: Any, data_args: Any, cutoff: int, until: float, tell: Any, step: int
) -> None:
    """Tokens and labels of each record, whole and under cutoff_len. -1 tokens: the preprocessing drops the record."""
    whole, kept, labels = [], [], []
    for number, row in enumerate(rows):
        if number % 16 == 0 and time.monotonic() > until:
            break
        columns = {column: [value] for column, value in row.items()}
        data_args.cutoff_len = HUGE
        ids, marks = counted(encode(columns))
        whole.append(ids)
        if ids > cutoff:
            data_args.cutoff_len = cutoff
            ids, marks = counted(encode(columns))
        kept.append(ids)
        labels.append(marks)
    tell("lengths", entry=name, step=step, cutoff=cutoff, whole=whole, kept=kept, labels=labels)


def counted(encoded: dict[str, Any]) -> tuple[int, int]:
    """(tokens, tokens that are learnt) of the row; pairs are measured by their chosen answer."""
    for ids, labels in (("input_ids", "labels"), ("chosen_input_ids", "chosen_labels")):
        if encoded.get(ids):
            row = encoded[ids][0]
            marks = encoded[labels][0] if encoded.get(labels) else row
            return len(row), sum(mark != -100 for mark in marks)
    return -1, 0


if __name__ == "__main__":
    main()
