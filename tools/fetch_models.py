"""Download speech encoders and language models from the Hugging Face Hub into a folder, for machines without internet.

  python tools/fetch_models.py models microsoft/wavlm-large Qwen/Qwen2.5-1.5B
  python tools/fetch_models.py models --config egs2/librispeech_iemocap/slm1/conf/train.yaml

An interrupted download resumes when the command is called again. For gated models (Llama), accept the licence on the
model's page and set HF_TOKEN.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import GatedRepoError, HTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

from harmonifuse_espnet.common.config import read_config
from harmonifuse_espnet.common.errors import AccessError, InputError, MissingFileError, report_user_errors

PLACES = {
    "frontend_conf": "--encoder",
    "decoder_conf": "--llm",
}  # entry of a training configuration -> option of run.sh
SHARD = r"(-\d{5}-of-\d{5})?"
SETTINGS = re.compile(r"[^/]+\.(json|txt|jinja|model)")  # configurations and tokenizers, not in subfolders
SAFETENSORS = re.compile(rf"model{SHARD}\.safetensors")
PICKLED = re.compile(rf"pytorch_model{SHARD}\.bin")


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out_dir", type=Path, help="folder in which a folder USER/NAME is created for each model")
    parser.add_argument("names", nargs="*", metavar="USER/NAME", help="models on the Hugging Face Hub")
    parser.add_argument(
        "--config", type=Path, help="training configuration of a recipe whose encoder and language model to download"
    )
    parser.add_argument(
        "--dry_run", action="store_true", help="list the files and their sizes without downloading them"
    )
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Download the models, and print the options of run.sh that select them."""
    args = get_parser().parse_args(cmd)
    with report_user_errors():
        options = names_of(args.config) if args.config else {}
        names = [*args.names, *(name for name in options.values() if name not in args.names)]
        if not names:
            raise InputError("no model to download; give USER/NAME or --config TRAIN.yaml")
        folders = {name: fetch_model(args.out_dir, name, args.dry_run) for name in names}
    if not args.dry_run:
        selected = " ".join(f"{option} {folders[name]}" for option, name in options.items())
        print(f"Next: ./run.sh {selected or '--encoder <folder> --llm <folder>'}")


def names_of(config: Path) -> dict[str, str]:
    """Return the models in a training configuration: option of ``run.sh`` -> name on the Hub.

    Raises:
        InputError: if the configuration names no model.
    """
    content = read_config(config)
    options = {}
    for place, option in PLACES.items():
        name = (content.get(place) or {}).get("model")
        if name and not Path(name).exists():
            options[option] = name
    if not options:
        raise InputError(f"{config}: neither frontend_conf nor decoder_conf names a model on the Hub")
    return options


def wanted(files: Sequence[str]) -> list[str]:
    """Select from a model's files the configuration, the tokenizer and the weights, preferably as safetensors.

    Raises:
        InputError: if there are no weights.

    Example:
        >>> wanted(["config.json", "model.safetensors", "onnx/model.onnx", "pytorch_model.bin"])
        ['config.json', 'model.safetensors']
    """
    weights = [name for name in files if SAFETENSORS.fullmatch(name)] or [
        name for name in files if PICKLED.fullmatch(name)
    ]
    if not weights:
        raise InputError(f"neither model.safetensors nor pytorch_model.bin is among its files: {', '.join(files)}")
    return [name for name in files if SETTINGS.fullmatch(name) or name in weights]


def fetch_model(out_dir: Path, name: str, dry_run: bool = False) -> Path:
    """Download a model to ``out_dir/<user>/<name>``, and return that folder's absolute path.

    Raises:
        InputError: if the name is not USER/NAME, or the model has no weights.
        MissingFileError: if the model does not exist.
        AccessError: if the model is gated, or the Hub cannot be reached.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise InputError(f"'{name}': expected USER/NAME, such as microsoft/wavlm-large")
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
        raise AccessError(
            f"{name} is gated: accept its licence at https://huggingface.co/{name}, create a token at "
            "https://huggingface.co/settings/tokens, and set HF_TOKEN to it"
        ) from error
    except RepositoryNotFoundError as error:
        raise MissingFileError(f"{name}: no such model on the Hub, or it is private and HF_TOKEN is not set") from error
    except (HTTPError, OfflineModeIsEnabled) as error:  # HTTPError of the HTTP library that huggingface_hub uses
        raise AccessError(
            f"{name}: the Hub cannot be reached ({str(error).splitlines()[0]}); run this on a machine with internet, "
            f"and copy {out_dir}"
        ) from error
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    return folder


if __name__ == "__main__":
    main()
