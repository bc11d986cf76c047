"""Bring speech encoders and language models from the Hugging Face Hub into a folder, for nodes without internet.

  python tools/fetch_models.py models microsoft/wavlm-large Qwen/Qwen2.5-1.5B
  python tools/fetch_models.py models --config egs2/librispeech_iemocap/slm1/conf/train.yaml

A second call goes on where the first was stopped. For gated models (Llama) accept the licence on the model's page and
set HF_TOKEN.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import GatedRepoError, HTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

from harmonifuse_espnet.common.config import read_config

PLACES = {"frontend_conf": "--encoder", "decoder_conf": "--llm"}  # entry of a recipe's config -> option of run.sh
SHARD = r"(-\d{5}-of-\d{5})?"
SETTINGS = re.compile(r"[^/]+\.(json|txt|jinja|model)")  # configs and tokenizers; nothing in folders
SAFETENSORS = re.compile(rf"model{SHARD}\.safetensors")
PICKLED = re.compile(rf"pytorch_model{SHARD}\.bin")


def get_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out_dir", type=Path, help="a folder <user>/<name> is made in it for each model")
    parser.add_argument("names", nargs="*", metavar="USER/NAME", help="models on the hub")
    parser.add_argument("--config", type=Path, help="a recipe's training config: its encoder and language model")
    parser.add_argument("--dry_run", action="store_true", help="list the files and sizes; bring nothing")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Bring the models and say how a recipe finds them."""
    args = get_parser().parse_args(cmd)
    try:
        options = names_of(args.config) if args.config else {}
        names = [*args.names, *(name for name in options.values() if name not in args.names)]
        if not names:
            raise ValueError("no model is named; give USER/NAME or --config TRAIN.yaml")
        folders = {name: fetch_model(args.out_dir, name, args.dry_run) for name in names}
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    if not args.dry_run:
        found = " ".join(f"{option} {folders[name]}" for option, name in options.items())
        print(f"Now: ./run.sh {found or '--encoder <folder> --llm <folder>'}")


def names_of(config: Path) -> dict[str, str]:
    """Option of ``run.sh`` -> name on the hub, of the encoder and the language model in a training config.

    Raises:
        ValueError: if it names no model.
    """
    content = read_config(config)
    options = {}
    for place, option in PLACES.items():
        name = (content.get(place) or {}).get("model")
        if name and not Path(name).exists():
            options[option] = name
    if not options:
        raise ValueError(f"{config}: neither frontend_conf nor decoder_conf has a model of the hub")
    return options


def wanted(files: Sequence[str]) -> list[str]:
    """Of a model's files: settings, tokenizer, and the weights once, as safetensors where there are any.

    Raises:
        ValueError: if there are no weights.

    Example:
        >>> wanted(["config.json", "model.safetensors", "onnx/model.onnx", "pytorch_model.bin"])
        ['config.json', 'model.safetensors']
    """
    weights = [name for name in files if SAFETENSORS.fullmatch(name)] or [
        name for name in files if PICKLED.fullmatch(name)
    ]
    if not weights:
        raise ValueError(f"no model.safetensors and no pytorch_model.bin among its files: {', '.join(files)}")
    return [name for name in files if SETTINGS.fullmatch(name) or name in weights]


def fetch_model(out_dir: Path, name: str, dry_run: bool = False) -> Path:
    """Bring a model to ``out_dir/<user>/<name>`` and return that folder's absolute path.

    Raises:
        ValueError: if the name is not USER/NAME, or the model has no weights.
        OSError: if the model is not there, is gated, or the hub cannot be reached.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise ValueError(f"'{name}': expected USER/NAME, such as microsoft/wavlm-large")
    folder = (out_dir / name).absolute()
    try:
        info = HfApi().model_info(name, files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
        files = wanted(list(sizes))
        print(f"{folder}: {len(files)} files, {sum(sizes[file] for file in files) / 1e9:.2f} GB, revision {info.sha}")
        if dry_run:
            print("".join(f"{sizes[file]:>16,} bytes  {file}\n" for file in files), end="")
        else:
            snapshot_download(name, revision=info.sha, local_dir=folder, allow_patterns=files)
    except GatedRepoError as error:
        raise PermissionError(
            f"{name} is gated: accept its licence at https://huggingface.co/{name}, make a token at "
            "https://huggingface.co/settings/tokens, and set HF_TOKEN to it"
        ) from error
    except RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"{name}: the hub has no such model, or it is private and HF_TOKEN is not set"
        ) from error
    except (HTTPError, OfflineModeIsEnabled) as error:  # HTTPError: of the HTTP library that this hub client uses
        raise ConnectionError(
            f"{name}: the hub cannot be reached ({str(error).splitlines()[0]}); call this where there is internet, "
            f"and copy {out_dir} to the nodes"
        ) from error
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    return folder


if __name__ == "__main__":
    main()
