"""The content of the corpus: folders, speakers, sentences. A pure function of the sizes and the seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from sentences import draw_sentences
from voices import Voice

# Voice variants of eSpeak NG. The voices of the test sets, which include the actors of the fifth session, are in no
# training set. A variant that is listed twice is two readers, with different size, pitch and rate.
READERS = {
    "train-mini": 2 * "m1 m3 m4 m5 m7 m8 f1 f2 f3 f5 Alex adam Gene Lee ed paul Michael linda belinda steph ",
    "dev-mini": "m6 Alicia benjamin",
    "test-mini": "m2 f4 Andy Annie",
}
ACTORS = (("f1", "m1"), ("f2", "m7"), ("f3", "m3"), ("f5", "m5"), ("f4", "m2"))
ACTED = ("neu", "ang", "hap", "sad")
# Names of the dialogs of each session as in the release, with irregular ones. In sessions 1 to 4, the last two dialogs
# are in the development and the test set.
DIALOGS = (
    "Ses01F_impro01 Ses01M_impro02 Ses01F_script01_1 Ses01M_script01_2 Ses01F_script02_1 Ses01M_script03_2",
    "Ses02F_impro01 Ses02M_impro02 Ses02F_script01_1 Ses02M_script01_2 Ses02F_script02_1 Ses02M_script03_2",
    "Ses03M_impro05a Ses03M_impro05b Ses03M_impro08a Ses03M_impro08b Ses03F_script02_1 Ses03M_script03_2",
    "Ses04F_impro01 Ses04M_impro02 Ses04F_script01_1 Ses04M_script01_2 Ses04F_script02_1 Ses04M_script03_2",
    "Ses05F_impro01 Ses05M_impro02 Ses05M_script01_1 Ses05M_script01_1b",
)


@dataclass(frozen=True)
class Sizes:
    """The numbers of sentences; the defaults are those of the recipe.

    Attributes:
        read: Sentences of each reader in the training, development and test subset.
        acted: Sentences of each actor in the training, development and test dialogs, and in the dialogs of unseen
            actors. Each sentence is spoken in four emotions.
    """

    read: tuple[int, int, int] = (30, 20, 30)
    acted: tuple[int, int, int, int] = (25, 3, 5, 20)

    def scaled(self, scale: float) -> Sizes:
        """Return the sizes multiplied by ``scale``, each at least 1."""
        read, acted = ([max(1, round(scale * count)) for count in counts] for counts in (self.read, self.acted))
        return Sizes((read[0], read[1], read[2]), (acted[0], acted[1], acted[2], acted[3]))


@dataclass(frozen=True)
class Chapter:
    """A folder of LibriSpeech: the sentences of one reader."""

    subset: str
    reader: str
    chapter: str
    voice: Voice
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Line:
    """A turn of a dialog: the speaker (F or M), the words, the acted emotion and the annotated label."""

    sex: str
    sentence: str
    emotion: str
    label: str


@dataclass(frozen=True)
class Dialog:
    """A dialog of IEMOCAP: its name, the voices by sex, its turns in order."""

    name: str
    voices: dict[str, Voice]
    lines: tuple[Line, ...]


def plan(sizes: Sizes, seed: int) -> tuple[list[Chapter], list[Dialog]]:
    """Return all chapters and dialogs; no sentence is in two chapters, or is spoken by two actors."""
    generator = random.Random(seed)
    groups = [(subset, names.split()) for subset, names in READERS.items()]
    total = sum(count * len(names) for count, (_, names) in zip(sizes.read, groups, strict=True))
    total += 2 * (4 * sum(sizes.acted[:3]) + sizes.acted[3])
    sentences = iter(draw_sentences(total, seed))
    chapters: list[Chapter] = []
    for (subset, names), count in zip(groups, sizes.read, strict=True):
        for name in names:
            reader = str(100 + len(chapters))
            own = tuple(islice(sentences, count))
            chapters.append(Chapter(subset, reader, f"{reader}1", _voice(name, generator), own))
    return chapters, [dialog for number in range(5) for dialog in _session(number, sizes, sentences, generator)]


def _voice(name: str, generator: random.Random) -> Voice:
    pitch, rate, size = generator.randint(42, 58), generator.randint(160, 182), generator.uniform(0.95, 1.05)
    return Voice(f"en-us+{name}", pitch, rate, size)


def _session(number: int, sizes: Sizes, sentences: Iterator[str], generator: random.Random) -> Iterator[Dialog]:
    """Yield the dialogs of a session; the training sentences are distributed over all dialogs but the last two."""
    voices = dict(zip("FM", (_voice(name, generator) for name in ACTORS[number]), strict=True))
    names = DIALOGS[number].split()
    parts: list[tuple[Sequence[str], int]]
    if number == len(ACTORS) - 1:
        parts = [(names, sizes.acted[3])]
    else:
        parts = [(names[:-2], sizes.acted[0]), (names[-2:-1], sizes.acted[1]), (names[-1:], sizes.acted[2])]
    for part, count in parts:
        acted = [(sex, words, emotion) for sex in "FM" for words in islice(sentences, count) for emotion in ACTED]
        generator.shuffle(acted)
        lines = [Line(sex, words, emotion, _label(emotion, generator)) for sex, words, emotion in acted]
        for index, name in enumerate(part):
            yield Dialog(name, voices, tuple(_with_others(lines[index :: len(part)], generator)))


def _label(emotion: str, generator: random.Random) -> str:
    """Return the label of an acted emotion: some happy turns are labelled excitement, as in the release."""
    return "exc" if emotion == "hap" and generator.random() < 0.3 else emotion


def _with_others(lines: Sequence[Line], generator: random.Random) -> Iterator[Line]:
    """Yield the turns, and a few labelled frustration or without agreement, which are not of the four classes."""
    for line in lines:
        yield line
        if generator.random() < 0.04:
            yield Line(line.sex, line.sentence, "fru", generator.choice(("fru", "xxx")))
