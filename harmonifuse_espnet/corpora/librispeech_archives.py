"""Download of LibriSpeech's archives from OpenSLR: URLs and MD5 sums."""

from __future__ import annotations

import shutil
from pathlib import Path

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.common.files import writing
from harmonifuse_espnet.corpora.download import fetch, unpack

BASE_URL = "https://www.openslr.org/resources"
# Subset -> number of the resource at OpenSLR, and the MD5 sum in its md5sum.txt.
ARCHIVES = {
    "train-clean-100": (12, "2a93770f6d5c6c964bc36631d331a522"),
    "train-clean-360": (12, "c0e676e450a7ff2f54aeade5171606fa"),
    "train-other-500": (12, "d1a0fd59409feb2c614ce4d30c387708"),
    "dev-clean": (12, "42e2234ba48799c1f50f24a7926300a1"),
    "dev-other": (12, "c8d0bcc9cca99d4f8b62fcc847357931"),
    "test-clean": (12, "32fa31d27d2e1cad72775fee3f4849a9"),
    "test-other": (12, "fb5a50374b501bb3bac4815ee91d3135"),
    "train-clean-5": (31, "5df7d4e78065366204ca6845bb08f490"),
    "dev-clean-2": (31, "6d7ab67ac6a1d2c993d050e16d61080d"),
}


def download_subset(out_dir: Path, subset: str, base_url: str = BASE_URL, keep_archive: bool = False) -> Path:
    """Download and unpack ``out_dir/LibriSpeech/<subset>``; an existing folder is complete and is kept.

    Raises:
        AccessError: if the server refuses or does not respond, or the folder cannot be written.
        InputError: if the archive's MD5 sum is wrong, or the subset is missing from it.
    """
    final = out_dir / "LibriSpeech" / subset
    if final.is_dir():
        print(f"{final}: already exists")
        return final
    resource, md5 = ARCHIVES[subset]
    archive, temporary = out_dir / f"{subset}.tar.gz", out_dir / f".{subset}.unfinished"
    fetch(f"{base_url}/{resource}/{subset}.tar.gz", archive, md5)
    shutil.rmtree(temporary, ignore_errors=True)
    unpack(archive, temporary)
    unpacked = temporary / "LibriSpeech"
    if not (unpacked / subset).is_dir():
        raise InputError(f"{archive}: has no LibriSpeech/{subset}; use OpenSLR's archive")
    with writing(out_dir):
        final.parent.mkdir(exist_ok=True)
        for file in unpacked.iterdir():
            if file.is_file():  # such as SPEAKERS.TXT, which is in every archive
                file.replace(final.parent / file.name)
        (unpacked / subset).rename(final)
        shutil.rmtree(temporary)
        if not keep_archive:
            archive.unlink()
    print(f"{final}: downloaded and unpacked")
    return final
