"""Runs in the target's interpreter: `python model_child.py FOLDER remote|plain` — random weights for FOLDER/config.json.

Written in shards, so that loading goes through an index as it will with the real model. Imports nothing of the doctor.
"""

import json
import pathlib
import sys


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    remote = sys.argv[2] == "remote"
    import torch
    import transformers

    torch.manual_seed(0)
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config = transformers.AutoConfig.from_pretrained(str(folder), trust_remote_code=remote)
    wanted = settings.get("torch_dtype") or settings.get("dtype") or "float32"
    dtype = getattr(torch, str(wanted).replace("torch.", ""), torch.float32)
    named = (settings.get("architectures") or [""])[0]
    own = getattr(transformers, named, None)
    if own is not None and not (remote and "auto_map" in settings):
        model = own(config)
    else:
        model = transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=remote)
    model = model.to(dtype)
    generation = folder / "generation_config.json"
    kept = generation.read_bytes() if generation.exists() else None
    written = (folder / "config.json").read_bytes()
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    model.save_pretrained(str(folder), max_shard_size=max(size // 2, 1 << 16))
    (folder / "config.json").write_bytes(written)
    if kept is not None:  # the model's own, verbatim: an odd one is for the run to complain about
        generation.write_bytes(kept)
    else:
        generation.unlink(missing_ok=True)
    print(json.dumps({"parameters": sum(p.numel() for p in model.parameters()), "class": type(model).__name__}))


if __name__ == "__main__":
    main()
