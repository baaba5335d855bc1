"""Runs in an environment of LLaMA-Factory: its own parser on many recipes, one fork each after the imports.

Standard input: JSON lines {"path", "subcommand", "workdir"}; standard output: the same with "refusal": null or what it
said. The devices are said to know bf16, so that a machine without a GPU tells the same as one with; the launch is that of
torchrun with one process (torch's fake backend).
"""

import contextlib
import json
import os
import sys
import traceback


def main() -> None:
    said = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", LOCAL_WORLD_SIZE="1", MASTER_ADDR="127.0.0.1",
                      MASTER_PORT="29599", LOCAL_SIZE="1", HF_HUB_OFFLINE="1", WANDB_MODE="offline")  # fmt: skip
    import torch.distributed
    import transformers.training_args
    from llamafactory.hparams import parser
    from llamafactory.train import tuner
    from torch.testing._internal.distributed.fake_pg import FakeStore

    real = torch.distributed.init_process_group
    with contextlib.suppress(ImportError):
        from deepspeed import comm  # what it does besides is to build operators, for minutes

        comm.init_distributed = lambda *a, **k: torch.distributed.init_process_group()
    torch.distributed.init_process_group = lambda *a, **k: real(backend="fake", rank=0, world_size=1, store=FakeStore())
    for module in (transformers.training_args, parser):
        module.is_torch_bf16_gpu_available = lambda: True
    from llamafactory.data.template import TEMPLATES
    from llamafactory.model.model_utils.quantization import QuantizationMethod

    methods = [method.value for method in QuantizationMethod]

    parsers = {"train": tuner.get_train_args, "eval": getattr(parser, "get_eval_args", None)}

    def ask(subcommand: str) -> None:
        if subcommand == "new":  # USE_V1=1
            from llamafactory.v1.config.arg_parser import get_args

            get_args()
            return
        parse = parsers.get(subcommand, parser.get_infer_args)
        parts = parse(None)
        data = next(part for part in parts if hasattr(part, "template"))
        if data.template is not None and data.template not in TEMPLATES:  # what the loader asks next
            raise ValueError(f"Template {data.template} does not exist.")
        model = next(part for part in parts if hasattr(part, "quantization_bit"))
        if model.quantization_bit is not None and model.quantization_method not in methods:
            # The loader compares it with each method it knows, and with none of them trains without quantization.
            raise ValueError(f"Quantization method {model.quantization_method} is none of {methods}.")

    for line in sys.stdin:
        asked = json.loads(line)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            os.chdir(asked["workdir"])
            sys.argv = ["llamafactory-cli", asked["path"]]
            refusal = None
            try:
                ask(asked["subcommand"])
            except BaseException as error:  # noqa: BLE001 - SystemExit of argparse is a refusal, too
                traceback.print_exc()
                refusal = f"{type(error).__name__}: {error}"[:1000]
            os.write(writer, json.dumps(refusal).encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            raw = pipe.read()
        os.waitpid(child, 0)
        refusal = json.loads(raw) if raw else "the parser ended the process"
        said.write(json.dumps({**asked, "refusal": refusal}) + "\n")
        said.flush()


if __name__ == "__main__":
    main()
