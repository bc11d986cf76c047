"""The package as users import it: the public class on first use, and type annotations."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

import harmonifuse_espnet

ROOT = Path(__file__).resolve().parents[1]


def run_python(code: str) -> str:
    """Run code in a new interpreter and return what it prints."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=120, check=True).stdout


def test_importing_the_package_does_not_import_torch() -> None:
    assert run_python("import sys, harmonifuse_espnet; print('torch' in sys.modules)") == "False\n"


def test_speech2text_is_imported_on_first_use() -> None:
    code = "from harmonifuse_espnet import Speech2Text; print(Speech2Text.__module__, Speech2Text.from_pretrained)"
    assert run_python(code).startswith("harmonifuse_espnet.inference.speech2text <bound method Speech2Text.from_pret")


def test_other_attributes_do_not_exist() -> None:
    with pytest.raises(AttributeError, match="module 'harmonifuse_espnet' has no attribute 'Text2Speech'"):
        _ = harmonifuse_espnet.Text2Speech


def test_the_package_has_annotations_for_type_checkers() -> None:
    assert (files("harmonifuse_espnet") / "py.typed").is_file()
    assert 'package_data={PACKAGE: ["py.typed", "train/options.json"]}' in (ROOT / "setup.py").read_text()
