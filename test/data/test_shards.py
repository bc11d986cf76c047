"""A damaged record of a shard means that the shard is formatted again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from harmonifuse_espnet.data.shards import AudioOptions, Shard, Source, format_shard, load_up_to_date, make_shards

OPTIONS = AudioOptions("flac", 16000, 0.0, 30.0)


@pytest.fixture
def shard(tmp_path: Path) -> Shard:
    """A formatted shard of two utterances, in ``out``."""
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", np.arange(400, dtype=np.int16), 16000)
    (made,) = make_shards(Source(name, str(tmp_path / f"{name}.wav")) for name in ("a", "b"))
    format_shard(made, tmp_path / "out", OPTIONS)
    assert load_up_to_date(made, tmp_path / "out", OPTIONS) is not None
    return made


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", "\xff", "[" * 5000, '{"fingerprint": NaN}', "{}"], ids=lambda text: text[:9]
)
def test_a_file_that_is_no_record_is_not_up_to_date(tmp_path: Path, shard: Shard, content: str) -> None:
    (tmp_path / "out/format.1/shard.json").write_bytes(content.encode("latin-1"))
    assert load_up_to_date(shard, tmp_path / "out", OPTIONS) is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("files", None),
        ("files", {"x" * 300: 1}),
        ("files", {"a\0": 1}),
        ("records", []),
        ("records", [{"id": "a"}]),
        ("records", [{"id": "a"}, {"id": "a"}]),
        ("records", [{"id": "a"}, {"id": "b", "location": 1}]),
        ("records", [{"id": "a"}, {"id": "b", "num_samples": "1"}]),
        ("records", [{"id": "a"}, {"id": "b", "other": 1}]),
        ("records", [1, 2]),
        ("records", 5),
    ],
)
def test_a_record_of_other_types_or_utterances_is_not_up_to_date(
    tmp_path: Path, shard: Shard, key: str, value: Any
) -> None:
    path = tmp_path / "out/format.1/shard.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    assert load_up_to_date(shard, tmp_path / "out", OPTIONS) is None
