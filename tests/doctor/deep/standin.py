"""A LLaMA-Factory in miniature that a real child imports: a parser with a rule, a converter, a tokenizer of words."""

from __future__ import annotations

from pathlib import Path

FILES = {
    "llamafactory/__init__.py": "",
    "llamafactory/train/__init__.py": "",
    "llamafactory/train/tuner.py": "from llamafactory.hparams import get_train_args\n",
    "llamafactory/hparams.py": """
import os, sys, types
import yaml

def get_train_args(args):
    if args is None:
        args = yaml.safe_load(open(sys.argv[1]))
    print("printed by a library")
    if args.get("learning_rate") == "hang":
        import time; time.sleep(60)
    if args.get("bf16") and args.get("fp16"):
        raise ValueError("At most one of fp16 and bf16 can be True, but not both")
    if args.get("odd"):
        raise ValueError("Nobody has met this message before.")
    make = types.SimpleNamespace
    training = make(world_size=int(os.environ.get("WORLD_SIZE", 1)), device="cpu")
    data = make(cutoff_len=args.get("cutoff_len", 2048), max_samples=None, dataset_dir="data")
    return make(cache_dir=None), data, training, make(stage="sft"), None
""",
    "llamafactory/model.py": 'def load_tokenizer(model_args):\n    return {"tokenizer": "words", "processor": None}\n',
    "llamafactory/data/__init__.py": "",
    "llamafactory/data/parser.py": """
import json, os, types

def get_dataset_list(names, dataset_dir):
    info = json.load(open(os.path.join(dataset_dir, "dataset_info.json")))
    return [types.SimpleNamespace(file=os.path.join(dataset_dir, info[name]["file_name"])) for name in names]
""",
    "llamafactory/data/template.py": "def get_template_and_fix_tokenizer(tokenizer, data_args):\n    return 'template'\n",
    "llamafactory/data/loader.py": """
import json

class Rows(list):
    def select(self, places):
        return Rows(self[place] for place in places)

def _load_single_dataset(attributes, model_args, data_args, training_args):
    return Rows(json.loads(line) for line in open(attributes.file))

def _get_dataset_processor(data_args, stage, template, tokenizer, processor):
    class Processor:
        def preprocess_dataset(self, columns):
            asked, said = columns["instruction"][0].split(), columns["output"][0].split()
            if not asked:
                return {}
            ids = (asked + said)[: data_args.cutoff_len]
            return {"input_ids": [ids], "labels": [[-100] * min(len(asked), len(ids)) + said[: len(ids) - len(asked)]]}
    return Processor()
""",
}


def write(site: Path) -> None:
    """The packages, into a folder that the child has on PYTHONPATH."""
    for name, text in FILES.items():
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
