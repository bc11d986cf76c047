"""Stage 5, with --align true: when each word of the training set was said, by a model that has learned to transcribe.

Writes `ctm` into the dump folder, for training that makes new utterances of these words (`preprocessor_conf`'s
`recombine`). Utterances whose words can't be told apart are left out. A call that was killed goes on where it was.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harmonifuse_espnet.answers import check_same_ids
from harmonifuse_espnet.audio import SAMPLE_RATE, read_audio
from harmonifuse_espnet.bin import friendly_errors
from harmonifuse_espnet.corpora.datadir import read_table
from harmonifuse_espnet.files import write_files
from harmonifuse_espnet.progress import progress
from harmonifuse_espnet.resuming import file_identity, in_batches
from harmonifuse_espnet.word_times import CTM, Heard, format_ctm, part_words, words_of

PARTIAL = "ctm.partial.jsonl"


def get_parser() -> argparse.ArgumentParser:
    """The options of this command."""
    parser = argparse.ArgumentParser(
        prog="python -m harmonifuse_espnet.bin.align",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--train_config", required=True, help="config.yaml of the experiment")
    parser.add_argument("--model_file", required=True, help="checkpoint of the experiment")
    parser.add_argument("--data_dir", required=True, help="dump folder of stage 2, which gets the ctm")
    parser.add_argument("--batch_size", type=int, default=16, help="utterances at a time; the times don't depend on it")
    parser.add_argument("--ngpu", type=int, default=0, help="0 for the CPU, 1 for a GPU")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Align a folder."""
    logging.basicConfig(level=logging.WARNING)
    with friendly_errors():
        args = get_parser().parse_args(cmd)
        data_dir = Path(args.data_dir)
        tables = {name: read_table(data_dir / name) for name in ("wav.scp", "text", "utt2task", "utt2num_samples")}
        check_same_ids(data_dir, tables)
        from harmonifuse_espnet.speech2text import Speech2Text

        model = Speech2Text(args.train_config, args.model_file, "cuda" if args.ngpu else "cpu")
        texts = {
            key: text for key, text in tables["text"].items() if model.tasks[tables["utt2task"][key]].answer == "text"
        }
        by_length = sorted(texts, key=lambda key: (-int(tables["utt2num_samples"][key]), key))

        def find_peaks(batch: Sequence[str]) -> list[dict[str, Any]]:
            speech = [read_audio(tables["wav.scp"][key], SAMPLE_RATE)[0] for key in batch]
            tasks = [tables["utt2task"][key] for key in batch]
            return [{"peaks": peaks} for peaks in model.word_peaks(speech, tasks, [texts[key] for key in batch])]

        identity = {"model": file_identity(args.model_file), "text": file_identity(data_dir / "text")}
        done = in_batches(data_dir / PARTIAL, identity, by_length, args.batch_size, find_peaks)
        print(_write(data_dir, tables["wav.scp"], texts, {key: entry["peaks"] for key, entry in done.items()}))


def _write(data_dir: Path, locations: Mapping[str, str], texts: Mapping[str, str], peaks: Mapping[str, Any]) -> str:
    """From the peaks to the file; returns what was done."""
    found = [key for key in sorted(texts) if peaks[key]]
    heard = {
        key: Heard.of(texts[key].split(), peaks[key], read_audio(locations[key], SAMPLE_RATE)[0])
        for key in progress(found, len(found), "utterances")
    }
    part_words(list(heard.values()))
    aligned = {key: words for key, words in ((key, words_of(one)) for key, one in heard.items()) if words}
    if not aligned:
        raise ValueError(
            f"{data_dir}: no utterance whose words can be told apart; align with a model that can transcribe"
        )
    write_files(data_dir, {CTM: format_ctm(aligned)})
    (data_dir / PARTIAL).unlink()
    count = sum(map(len, aligned.values()))
    return f"{data_dir / CTM}: {count} words of {len(aligned)} utterances, not of {len(texts) - len(aligned)} others"


if __name__ == "__main__":
    main()
