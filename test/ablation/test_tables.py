"""Tables of comparisons: captions, and what they say about the number of speakers."""

from __future__ import annotations

from pathlib import Path

import pytest

from harmonifuse_espnet.ablation.comparison import NO_DIFFERENCE, Comparison, Row
from harmonifuse_espnet.ablation.significance import Difference
from harmonifuse_espnet.ablation.spec import Ablation, Variant
from harmonifuse_espnet.ablation.tables import comparison_tables

DECODE = Path("conf/decode.yaml")
REFERENCE = Variant("ours", Path("conf/train.yaml"), 1, "Ours", ("test_ser",))
DIFFERENCE = Difference(-4.0, -6.25, -1.0, 0.03125, 0.0625, None)


def tables(speakers: int, differences: int) -> list[str]:
    """Return the paragraphs of a comparison with a number of other variants."""
    others = [Variant(f"v{index}", DECODE, 1, f"variant {index}", ("test_ser",)) for index in range(differences)]
    rows = [Row(REFERENCE, [70.0], None, "-"), *(Row(each, [66.0], DIFFERENCE, NO_DIFFERENCE) for each in others)]
    ablation = Ablation(REFERENCE, (), ("test_ser",), (DECODE,), (REFERENCE, *others))
    comparison = Comparison(DECODE, "test_ser", "ser", "llm", "UA", 324, speakers, rows)
    return comparison_tables(ablation, [comparison]).split("\n\n")


def test_the_caption_has_the_number_of_speakers_and_the_row_both_p_values() -> None:
    explained, caption, table = (tables(10, 2)[index] for index in (1, 3, 4))
    assert "bootstrap over the speakers" in explained and "corrected for the rows of the table by Holm" in explained
    assert caption == "UA of ser (llm) on test_ser, 324 utterances of 10 speakers:"
    assert table.splitlines() == [
        "|variant|seeds|UA|difference to Ours|p|p (Holm)|verdict|",
        "|---|---|---|---|---|---|---|",
        "|Ours|1|70.0|-|-|-|-|",
        *(f"|variant {index}|1|66.0|-4.0 [-6.2, -1.0]|0.031|0.062|no difference shown|" for index in range(2)),
    ]


@pytest.mark.parametrize(
    ("speakers", "differences", "expected"),
    [
        (6, 1, "6 speakers:"),
        (1, 0, "1 speaker:"),
        (10, 25, "10 speakers:"),
        (1, 1, "1 speaker (too few speakers for a significant difference: p is at least 2 / 2^1 = 1, and the "
         "smallest p must be below 0.05 / 1 = 0.05):"),
        (5, 1, "5 speakers (too few speakers for a significant difference: p is at least 2 / 2^5 = 0.062, and the "
         "smallest p must be below 0.05 / 1 = 0.05):"),
        (8, 20, "8 speakers (too few speakers for a significant difference: p is at least 2 / 2^8 = 0.0078, and the "
         "smallest p must be below 0.05 / 20 = 0.0025):"),
    ],
)  # fmt: skip
def test_the_caption_says_if_there_are_too_few_speakers(speakers: int, differences: int, expected: str) -> None:
    assert tables(speakers, differences)[3] == f"UA of ser (llm) on test_ser, 324 utterances of {expected}"
