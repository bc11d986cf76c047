"""Stage 10: put a packed model on the Hugging Face Hub, where ``Speech2Text.from_pretrained`` finds it."""

from __future__ import annotations

import argparse
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from harmonifuse_espnet.common.command_line import boolean
from harmonifuse_espnet.common.errors import AccessError, InputError, MissingFileError, report_user_errors

TAGS = ("espnet", "audio", "speech-language-model", "automatic-speech-recognition")
CARD = """
# {repo}

A HarmoniFuse speech language model ([arXiv:2509.18570](https://arxiv.org/abs/2509.18570)), trained with
harmonifuse_espnet, an extension of [ESPnet](https://github.com/espnet/espnet).

```python
from harmonifuse_espnet.speech2text import Speech2Text

model = Speech2Text.from_pretrained("{repo}")
{calls}
```

{results}"""


def get_parser() -> argparse.ArgumentParser:
    """The options of this command."""
    parser = argparse.ArgumentParser(
        prog="python -m harmonifuse_espnet.bin.upload",
        description="Upload a packed model to the Hugging Face Hub, with a model card made from its RESULTS.md.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--packed", required=True, help="the archive that pack wrote")
    parser.add_argument("--repo", required=True, help="where to: user/name")
    parser.add_argument("--dry_run", type=boolean, default=False, help="list what would go, without network")
    parser.add_argument("--private", type=boolean, default=False, help="make a new repository private")
    parser.add_argument("--license", default="cc-by-4.0", help="the model's licence, as the hub abbreviates it")
    parser.add_argument("--language", default="en", help="the language that the model knows")
    parser.add_argument("--dataset", action="append", help="a corpus that it was trained on; may be given again")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Unpack, write the model card, upload or list."""
    args = get_parser().parse_args(cmd)
    with report_user_errors(), TemporaryDirectory() as temporary:
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", args.repo):
            raise InputError(f"--repo must be user/name, got '{args.repo}'")
        folder = Path(temporary)
        unpack(Path(args.packed), folder)
        card = model_card(args.repo, folder, args.license, args.language, args.dataset or [])
        (folder / "README.md").write_text(card, encoding="utf-8")
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        print(f"{'would go' if args.dry_run else 'going'} to https://huggingface.co/{args.repo}:")
        for path in files:
            print(f"{path.stat().st_size:>14,} bytes  {path.relative_to(folder).as_posix()}")
        if not args.dry_run:
            upload(folder, args.repo, args.private)


def unpack(packed: Path, folder: Path) -> None:
    """Unpack as it is: ``from_pretrained`` points the config at the files where it is used, not here.

    Raises:
        FileNotFoundError: if there is no such archive.
        ValueError: if it is not one that ``pack`` wrote.
    """
    if not packed.is_file():
        raise MissingFileError(f"{packed}: no such archive; stage 9 (pack) makes it")
    try:
        with zipfile.ZipFile(packed) as archive:
            archive.extractall(folder)
    except zipfile.BadZipFile as error:
        raise InputError(f"{packed}: {error}; make it again with stage 9 (pack)") from error
    if not (folder / "meta.yaml").is_file():
        raise InputError(f"{packed}: no meta.yaml in it, so it is not a packed model; make it with stage 9 (pack)")


def model_card(repo: str, folder: Path, license_name: str, language: str, datasets: Sequence[str]) -> str:
    """The hub's README.md: its header, how to use the model, and RESULTS.md where it was packed."""
    header = {"license": license_name, "language": language, "library_name": "espnet", "tags": list(TAGS)}
    header |= {"datasets": list(datasets)} if datasets else {}
    results = folder / "RESULTS.md"
    text = results.read_text(encoding="utf-8").removeprefix("# RESULTS\n") if results.is_file() else ""
    if text:
        text = "## Results\n" + text.replace("\n##", "\n###")
    meta = yaml.safe_load((folder / "meta.yaml").read_text(encoding="utf-8"))
    config = yaml.safe_load((folder / meta["yaml_files"]["train_config"]).read_text(encoding="utf-8"))
    calls = "\n".join(f'print(model("speech.wav", task="{task}"))' for task in config["tasks"])
    body = CARD.format(repo=repo, calls=calls, results=text)
    return f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n{body.rstrip()}\n"


def upload(folder: Path, repo: str, private: bool) -> None:
    """Make the repository if it is not there, and upload the folder in one commit.

    Raises:
        PermissionError: if nobody is logged in.
        OSError: if the hub cannot be reached or refuses.
    """
    from huggingface_hub import HfApi, get_token

    if get_token() is None:
        raise AccessError(
            "not logged in to the Hugging Face Hub; make a token with write access at "
            "https://huggingface.co/settings/tokens, then call 'hf auth login' or set HF_TOKEN"
        )
    api = HfApi()
    api.create_repo(repo_id=repo, private=private, exist_ok=True)
    commit = api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Upload model")
    print(f"done: {commit.commit_url}")


if __name__ == "__main__":
    main()
