"""Sentences of a small command grammar of 73 words; the words are independent of the emotion."""

from __future__ import annotations

import random

SLOTS = {
    "verb": "bring take move show find hold drop open wash paint",
    "who": "we they i you",
    "want": "want need have see",
    "the": "the my your that",
    "colour": "red blue green black white yellow brown purple",
    "thing": "box cup lamp door book chair table window bottle jacket ladder mirror",
    "things": "boxes cups lamps doors books chairs tables windows bottles jackets ladders mirrors",
    "number": "two three four five six seven eight nine ten eleven twelve",
    "when": "here there again now today soon outside slowly",
}
WORDS = {slot: words.split() for slot, words in SLOTS.items()}
PATTERNS = (
    "verb the colour thing",
    "verb the thing when",
    "verb number colour things",
    "verb the colour thing when",
    "who want number things",
    "who want number colour things",
    "who want the colour thing when",
)


def draw_sentences(count: int, seed: int) -> list[str]:
    """Draw different sentences of three to six words, in lower case.

    Example:
        >>> len(set(draw_sentences(2000, seed=0)))
        2000
    """
    generator = random.Random(seed)
    sentences: dict[str, None] = {}
    while len(sentences) < count:
        pattern = generator.choice(PATTERNS)
        sentences[" ".join(generator.choice(WORDS[slot]) for slot in pattern.split())] = None
    return list(sentences)
