"""Reading of ``torch.save`` files without running code of their author."""

from __future__ import annotations

import pickle
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harmonifuse_espnet.common.errors import InputError

SAFETENSORS = ".safetensors"  # a file of weights that cannot hold code
ZIP_SIGNATURE = b"PK\x03\x04"  # of files since PyTorch 1.6, which can be mapped into memory
REMEDY = "copy or download it again, or run stage 6 (training) again"


def read_torch_file(path: Path, allowed: Sequence[Any] = (), remedy: str = REMEDY) -> Any:
    """Read a file of ``torch.save`` on the CPU; tensors are mapped from the file, not copied.

    A pickle file can call any function. PyTorch's restricted unpickler only creates tensors and plain containers, and
    the classes in ``allowed``.

    Args:
        path: The file.
        allowed: Other classes and functions that the file may use, for ``torch.serialization.safe_globals``.
        remedy: What the user can do about a damaged file.

    Raises:
        InputError: if the file is damaged, or needs any other class or function.
        OSError: if it cannot be opened.
    """
    import torch

    with open(path, "rb") as file:
        zipped = file.read(len(ZIP_SIGNATURE)) == ZIP_SIGNATURE
    try:
        with torch.serialization.safe_globals(list(allowed)):
            return torch.load(path, map_location="cpu", mmap=zipped, weights_only=True)
    except Exception as error:  # damaged bytes raise almost anything in the unpickler
        needed = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if needed:
            raise InputError(
                f"{path}: this pickle file needs {needed[1]}, which would run code of the file's author; ask for a "
                "model whose weights are a .safetensors file"
            ) from error
        raise damaged_file(path, error, remedy) from error


def damaged_file(path: Path, error: Exception, remedy: str = REMEDY) -> InputError:
    """Return the error for a file that cannot be read because of its content, with its size."""
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    reason = lines[0].split(". ")[0].removesuffix(".") if lines else type(error).__name__
    return InputError(f"{path}: damaged or incomplete, {path.stat().st_size:,} bytes ({reason[:200]}); {remedy}")
