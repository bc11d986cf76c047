"""Stage 5, with --align true: when each word of the training set was said, by a model that has learned to transcribe.

Writes `ctm` into the dump folder, for training that makes new utterances of these words (`preprocessor_conf`'s
`recombine`). Utterances of which the model mistakes more than half, or whose words can't be told apart, are left out. A
call that was killed goes on where it was; one whose ctm is there, of the same model and tables, does nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harmonifuse_espnet.common.errors import InputError, report_user_errors
from harmonifuse_espnet.common.files import write_files
from harmonifuse_espnet.common.progress import progress
from harmonifuse_espnet.common.resuming import file_identity, in_batches
from harmonifuse_espnet.data.alignment import COMMENT, CTM, Heard, Word, aligned_words, format_ctm, refine_boundaries
from harmonifuse_espnet.data.audio import SAMPLE_RATE, read_audio
from harmonifuse_espnet.data.datadir import check_same_ids, read_table

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
    with report_user_errors():
        args = get_parser().parse_args(cmd)
        data_dir = Path(args.data_dir)
        tables = {name: read_table(data_dir / name) for name in ("wav.scp", "text", "utt2task", "utt2num_samples")}
        check_same_ids(data_dir, tables)
        identity = {"model": file_identity(args.model_file), "data": _digest(tables)}
        if _made_with(data_dir / CTM) == identity:
            print(f"{data_dir / CTM}: up to date")
            return
        from harmonifuse_espnet.inference.speech2text import Speech2Text

        model = Speech2Text(args.train_config, args.model_file, "cuda" if args.ngpu else "cpu")
        unknown = sorted(set(tables["utt2task"].values()) - set(model.tasks))
        if unknown:
            raise InputError(
                f"{data_dir / 'utt2task'}: task '{unknown[0]}' is not one that {args.train_config} has learned "
                f"({', '.join(model.tasks)}); remove that experiment and train it again with stage 5"
            )
        texts = {
            key: text for key, text in tables["text"].items() if model.tasks[tables["utt2task"][key]].answer == "text"
        }
        by_length = sorted(texts, key=lambda key: (-int(tables["utt2num_samples"][key]), key))

        def find_peaks(batch: Sequence[str]) -> list[dict[str, Any]]:
            speech = [read_audio(tables["wav.scp"][key], SAMPLE_RATE)[0] for key in batch]
            tasks = [tables["utt2task"][key] for key in batch]
            return [{"peaks": peaks} for peaks in model.word_spans(speech, tasks, [texts[key] for key in batch])]

        done = in_batches(data_dir / PARTIAL, identity, by_length, args.batch_size, find_peaks)
        peaks = {key: entry["peaks"] for key, entry in done.items()}
        aligned = _part(texts, peaks, tables["wav.scp"])
        if not aligned:
            raise InputError(
                f"{data_dir}: no utterance whose words can be told apart; align with a model that can transcribe"
            )
        write_files(data_dir, {CTM: f"{COMMENT} {json.dumps(identity)}\n{format_ctm(aligned)}"})
        (data_dir / PARTIAL).unlink()
        count, others = sum(map(len, aligned.values())), len(texts) - len(aligned)
        print(f"{data_dir / CTM}: {count} words of {len(aligned)} utterances, not of {others} others")


def _digest(tables: Mapping[str, Mapping[str, str]]) -> str:
    """Changes with what the tables hold, not with when they were written."""
    return hashlib.sha256(json.dumps(tables, sort_keys=True).encode()).hexdigest()


def _made_with(ctm: Path) -> Any:
    """What an earlier call wrote into the first line; None if there is no such file, or it comes from elsewhere."""
    if not ctm.is_file():
        return None
    with ctm.open(encoding="utf-8") as lines:
        first = lines.readline()
    return json.loads(first.removeprefix(COMMENT)) if first.startswith(f"{COMMENT} {{") else None


def _part(texts: Mapping[str, str], peaks: Mapping[str, Any], locations: Mapping[str, str]) -> dict[str, list[Word]]:
    """The words, with their times, of the utterances in which they can be told apart."""
    found = [key for key in sorted(texts) if peaks[key]]
    heard = {
        key: Heard.of(texts[key].split(), peaks[key], read_audio(locations[key], SAMPLE_RATE)[0])
        for key in progress(found, len(found), "utterances")
    }
    refine_boundaries(list(heard.values()))
    return {key: words for key, words in ((key, aligned_words(one)) for key, one in heard.items()) if words}


if __name__ == "__main__":
    main()
