"""Upload of packed models to the Hugging Face Hub, from where ``Speech2Text.from_pretrained`` loads them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from harmonifuse_espnet.common.errors import AccessError, InputError, MissingFileError
from harmonifuse_espnet.inference.archive import unpack
from harmonifuse_espnet.inference.config_paths import read_mapping
from harmonifuse_espnet.inference.packed_model import read_packed_model

TAGS = ("espnet", "audio", "speech-language-model", "automatic-speech-recognition")
CARD = """
# {repo}

A HarmoniFuse speech language model ([arXiv:2509.18570](https://arxiv.org/abs/2509.18570)), trained with
harmonifuse_espnet, an extension of [ESPnet](https://github.com/espnet/espnet).

```python
from harmonifuse_espnet import Speech2Text

model = Speech2Text.from_pretrained("{repo}")
{calls}
```

{results}"""


@dataclass(frozen=True)
class ModelCard:
    """Metadata in the header of a model card.

    Attributes:
        license: Licence of the model, by the Hub's identifier.
        language: Language of the training data.
        datasets: Training corpora.
    """

    license: str = "cc-by-4.0"
    language: str = "en"
    datasets: Sequence[str] = ()

    def text(self, repo: str, folder: Path) -> str:
        """Return README.md of a repository: header, usage, and RESULTS.md if the unpacked ``folder`` has it."""
        header = {"license": self.license, "language": self.language, "library_name": "espnet", "tags": list(TAGS)}
        header |= {"datasets": list(self.datasets)} if self.datasets else {}
        path = folder / "RESULTS.md"
        results = path.read_text(encoding="utf-8").removeprefix("# RESULTS\n") if path.is_file() else ""
        if results:
            results = "## Results\n" + results.replace("\n##", "\n###")
        config = read_mapping(read_packed_model(folder, repo).train_config)
        calls = "\n".join(f'print(model("speech.wav", task="{task}"))' for task in config["tasks"])
        body = CARD.format(repo=repo, calls=calls, results=results)
        return f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n{body.rstrip()}\n"


@contextmanager
def repository_folder(packed: Path, repo: str, card: ModelCard) -> Iterator[Path]:
    """Unpack a model into a temporary folder and add its model card.

    The paths in the config stay those of the archive; ``from_pretrained`` replaces them when it reads the config.

    Raises:
        InputError: if ``repo`` is not ``user/name``, or ``packed`` is not a packed model.
        MissingFileError: if ``packed`` does not exist.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise InputError(f"--repo must be user/name, got '{repo}'")
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _unpack(packed, folder)
        (folder / "README.md").write_text(card.text(repo, folder), encoding="utf-8")
        yield folder


def list_files(folder: Path) -> str:
    """Return a line with the size and the name of each file in a folder, sorted by name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return "\n".join(f"{path.stat().st_size:>14,} bytes  {path.relative_to(folder).as_posix()}" for path in files)


def upload(folder: Path, repo: str, private: bool) -> str:
    """Create the repository if it does not exist, and upload the folder in one commit; return the commit's URL.

    Raises:
        AccessError: if the user is not logged in.
        OSError: if the Hub cannot be reached or refuses the upload.
    """
    from huggingface_hub import HfApi, get_token

    if get_token() is None:
        raise AccessError(
            "not logged in to the Hugging Face Hub; create a token with write access at "
            "https://huggingface.co/settings/tokens, then run 'hf auth login' or set HF_TOKEN"
        )
    api = HfApi()
    api.create_repo(repo_id=repo, private=private, exist_ok=True)
    return api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Upload model").commit_url


def _unpack(packed: Path, folder: Path) -> None:
    if not packed.is_file():
        raise MissingFileError(f"{packed}: no such archive; stage 9 (pack) creates it")
    unpack(packed, folder, "run stage 9 (pack) again")
    read_packed_model(folder, str(packed))
