"""Stage 9: one archive with everything that a trained model needs, in ESPnet's format.

``espnet_model_zoo`` unpacks it and points the config at the unpacked files. ESPnet's own ``pack`` is not called: it
stamps the archive with the time, and does not list folders, so that a tokenizer's folder would not be found again.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from platform import python_version
from typing import Any

import yaml

from harmonifuse_espnet.common.errors import InputError, MissingFileError, report_user_errors
from harmonifuse_espnet.common.files import writing

# What a config refers to, the stage that makes it, and whether it may be a name on the Hugging Face Hub instead.
REFERENCES = (
    (("tokenizer",), 4, True),
    (("ctc_tokenizer",), 4, True),
    (("feats_stats",), 5, False),
    (("frontend_conf", "model"), 6, True),
    (("decoder_conf", "model"), 6, True),
)
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip file can tell; the same archive for the same content

Contents = dict[str, "Path | bytes"]  # name in the archive -> file, folder or content


def get_parser() -> argparse.ArgumentParser:
    """The options of this command."""
    parser = argparse.ArgumentParser(
        prog="python -m harmonifuse_espnet.bin.pack",
        description="Pack config, model, tokenizers and statistics into one archive that espnet_model_zoo unpacks.",
    )
    parser.add_argument("--train_config", required=True, help="exp/<tag>/config.yaml")
    parser.add_argument("--model_file", required=True, help="the weights, such as exp/<tag>/valid.loss.ave.pth")
    parser.add_argument("--out", required=True, help="the archive to write, a .zip")
    parser.add_argument("--readme", help="RESULTS.md, packed with the pictures that it shows")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Write the archive and print what is in it."""
    args = get_parser().parse_args(cmd)
    with report_user_errors():
        out = Path(args.out)
        if out.suffix != ".zip":
            raise InputError(f"{out}: the archive must be called *.zip")
        contents = collect(Path(args.train_config), Path(args.model_file), Path(args.readme) if args.readme else None)
        write_archive(out, contents)
        print("\n".join([*contents, f"{out}: {out.stat().st_size:,} bytes"]))


def collect(train_config: Path, model_file: Path, readme: Path | None = None) -> Contents:
    """What goes into the archive; the config in it refers to the other files by their names in the archive.

    Raises:
        FileNotFoundError: if a file is missing; names it and the stage that makes it.
        ValueError: if the config is not YAML.
    """
    for path, stage in ((train_config, 6), (model_file, 6), (readme, 8)):
        if path is not None and not path.is_file():
            raise MissingFileError(f"{path}: no such file; stage {stage} makes it")
    try:
        config = yaml.safe_load(train_config.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InputError(f"{train_config}: not YAML: {error}") from error
    folder = f"exp/{train_config.resolve().parent.name}"
    names = {"train_config": f"{folder}/config.yaml", "model_file": f"{folder}/{model_file.name}"}
    files = _move_references(config)
    contents: Contents = {"meta.yaml": _to_yaml(_meta(names)), names["train_config"]: _to_yaml(config)}
    return contents | {names["model_file"]: model_file} | files | (_readme_contents(readme) if readme else {})


def write_archive(out: Path, contents: Mapping[str, Path | bytes]) -> None:
    """Write a zip file, complete or not at all; the same contents give the same bytes.

    Raises:
        OSError: if it cannot be written.
    """
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    with writing(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            with zipfile.ZipFile(temporary, "w") as archive:
                for name, content in contents.items():
                    _add(archive, name, content)
            os.replace(temporary, out)
        finally:
            temporary.unlink(missing_ok=True)


def _move_references(config: dict[str, Any]) -> Contents:
    """Point the config at names in the archive, in place, and return what these names stand for."""
    contents: Contents = {}
    for keys, stage, may_be_on_hub in REFERENCES:
        *parents, last = keys
        owner = config
        for key in parents:
            owner = owner.get(key) or {}
        value = owner.get(last)
        if value is None:
            continue
        path = Path(value)
        if path.exists():
            name = f"data/{'.'.join(keys)}"
            owner[last] = name if path.is_dir() else f"{name}/{path.name}"
            contents[owner[last]] = path
        elif not may_be_on_hub or not _may_be_hub_name(value):
            raise MissingFileError(
                f"{path}: no such file or folder, the config's {'.'.join(keys)}; stage {stage} makes it"
            )
    return contents


def _may_be_hub_name(value: str) -> bool:
    path = Path(value)
    return not path.is_absolute() and not value.startswith(".") and path.suffix != ".model" and len(path.parts) <= 2


def _readme_contents(readme: Path) -> Contents:
    """The read-me and the pictures that it shows."""
    text = readme.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", text) if "://" not in link]
    missing = [link for link in links if not (readme.parent / link).is_file()]
    if missing:
        raise MissingFileError(f"{readme}: shows {missing[0]}, which is not there; stage 8 makes it")
    outside = [link for link in links if PurePosixPath(link).is_absolute() or ".." in PurePosixPath(link).parts]
    if outside:
        raise InputError(f"{readme}: shows {outside[0]}, which is outside its folder and cannot be packed with it")
    return {"RESULTS.md": text.encode()} | {link: readme.parent / link for link in links}


def _meta(names: Mapping[str, str]) -> dict[str, Any]:
    """ESPnet's description of an archive, without the time."""
    return {
        "yaml_files": {"train_config": names["train_config"]},
        "files": {"model_file": names["model_file"]},
        "python": python_version(),
        "torch": version("torch"),
        "espnet": version("espnet"),
    }


def _to_yaml(content: Mapping[str, Any]) -> bytes:
    return yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True).encode()


def _add(archive: zipfile.ZipFile, name: str, content: Path | bytes) -> None:
    if isinstance(content, Path) and content.is_dir():
        archive.writestr(_member(f"{name}/", 0o40755), b"")
        for path in sorted(content.iterdir()):
            _add(archive, f"{name}/{path.name}", path)
    elif isinstance(content, Path):
        member = _member(name, 0o100644)
        member.file_size = content.stat().st_size
        with open(content, "rb") as source, archive.open(member, "w") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    else:
        archive.writestr(_member(name, 0o100644), content)


def _member(name: str, mode: int) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, EPOCH)
    member.external_attr = mode << 16
    return member


if __name__ == "__main__":
    main()
