"""Stage 7: a trained model's answers to every utterance of a dump folder.

Writes `text` (transcripts, labels), `ctc_text` (the CTC head's greedy path, for tasks that answer with text),
`label_probs.jsonl` (every label's probability), `selection.json` (the layers that each wording of a task selects),
`gate.json` (what the component gate does in one utterance of each task) and `speed.json` (seconds of audio, seconds
that the model took, the latter over the former: the real-time factor). A call that was killed goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from harmonifuse_espnet.common.config import parse_with_config
from harmonifuse_espnet.common.errors import InputError, report_user_errors
from harmonifuse_espnet.common.files import write_files
from harmonifuse_espnet.common.resuming import file_identity, in_batches
from harmonifuse_espnet.data.audio import SAMPLE_RATE, read_audio
from harmonifuse_espnet.data.datadir import check_same_ids, format_table, read_table
from harmonifuse_espnet.inference.gate_trace import GateTrace, trace_gate

if TYPE_CHECKING:
    from harmonifuse_espnet.data.tasks import Tasks
    from harmonifuse_espnet.inference.speech2text import Speech2Text

PARTIAL = "answers.partial.jsonl"
PROMPTS = ("trained", "held_out")
SEARCH = ("beam_size", "ctc_weight", "length_penalty", "max_length_ratio", "generate")  # as Speech2Text has them


def get_parser() -> argparse.ArgumentParser:
    """The options of this command."""
    parser = argparse.ArgumentParser(
        prog="python -m harmonifuse_espnet.bin.decode",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", help="YAML file with values for the options below")
    parser.add_argument("--train_config", required=True, help="config.yaml of the experiment")
    parser.add_argument("--model_file", required=True, help="checkpoint of the experiment")
    parser.add_argument("--data_dir", required=True, help="dump folder of a test set")
    parser.add_argument("--out_dir", required=True, help="where the answers go")
    parser.add_argument("--feats_type", default="raw", choices=["raw", "fbank", "ssl"], help="what the dump holds")
    parser.add_argument(
        "--batch_size", type=int, default=16, help="utterances at a time; the answers don't depend on it"
    )
    parser.add_argument("--ngpu", type=int, default=0, help="0 for the CPU, 1 for a GPU")
    parser.add_argument(
        "--beam_size", type=int, default=1, help="hypotheses of the search for a text; 1 is greedy search"
    )
    parser.add_argument(
        "--ctc_weight", type=float, default=0.0, help="share of CTC in that search: 0 is the language model alone"
    )
    parser.add_argument(
        "--length_penalty",
        type=float,
        default=0.0,
        help="beams have the sum of their tokens' scores over their number to this power: 0 is the sum, 1 the mean, "
        "which favours longer answers",
    )
    parser.add_argument(
        "--max_length_ratio", type=float, default=1.0, help="most tokens of an answer for each frame of the connector"
    )
    parser.add_argument(
        "--prompts", default="trained", help="trained: each task's first wording; held_out: its held-out ones in turn"
    )
    parser.add_argument(
        "--generate",
        type=yaml.safe_load,
        default={},
        help="more arguments of Hugging Face's generate: '{repetition_penalty: 1.2}'",
    )
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Decode a test set."""
    logging.basicConfig(level=logging.WARNING)
    with report_user_errors():
        args = parse_with_config(get_parser(), cmd)
        out_dir = Path(args.out_dir)
        speech, lengths, tasks = _read_tables(Path(args.data_dir), args.feats_type)
        from harmonifuse_espnet.inference.speech2text import Speech2Text

        device = "cuda" if args.ngpu else "cpu"
        search = {name: getattr(args, name) for name in SEARCH}
        model = Speech2Text(args.train_config, args.model_file, device, **search)
        wordings = _wordings(args, tasks, model.tasks)
        by_length = sorted(speech, key=lambda utterance: (-int(lengths[utterance]), utterance))

        def example(key: str) -> dict[str, np.ndarray]:
            return model.example(key, _load(speech[key], args.feats_type), tasks[key], wordings.get(key))

        def answer(batch: Sequence[str]) -> list[dict[str, Any]]:
            return _answer(model, [(key, example(key)) for key in batch])

        done = in_batches(out_dir / PARTIAL, _identity(args), by_length, args.batch_size, answer)
        gates = []
        for task, key in _typical(by_length, tasks).items():
            sound, text = _load(speech[key], args.feats_type), done[key]["text"]
            gates.append(trace_gate(model, key, task, sound, args.feats_type, _one_line(text), wordings.get(key)))
        speed = _speed({key: done[key]["seconds"] for key in speech}, lengths)
        _write(out_dir, {key: done[key] for key in speech}, model, sorted(set(tasks.values())), gates, speed)
        print(
            f"{out_dir}: {len(speech)} answers to {speed['audio_seconds']} s of audio in {speed['seconds']} s, "
            f"real-time factor {speed['rtf']}"
        )


def _read_tables(data_dir: Path, feats_type: str) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Where each utterance's speech is, its samples, and its task."""
    names = ("wav.scp" if feats_type == "raw" else "feats.scp", "utt2num_samples", "utt2task")
    tables = {name: read_table(data_dir / name) for name in names}
    check_same_ids(data_dir, tables)
    speech, lengths, tasks = tables.values()
    return speech, lengths, tasks


def _identity(args: argparse.Namespace) -> dict[str, Any]:
    """What partial answers must have been made with to be taken over."""
    return {
        **file_identity(args.model_file),
        **{name: getattr(args, name) for name in ("data_dir", "prompts", *SEARCH)},
    }


def _wordings(args: argparse.Namespace, tasks: Mapping[str, str], table: Tasks) -> dict[str, str]:
    """Utterance -> its prompt; none, which is the task's first, in trained ones. The sorted ones of a task take turns.

    Raises:
        ValueError: if a task has no held-out wording.
    """
    if args.prompts not in PROMPTS:
        raise InputError(f"--prompts is '{args.prompts}', but must be one of: {', '.join(PROMPTS)}")
    if args.prompts == "trained":
        return {}
    for name in sorted(set(tasks.values())):
        if name not in table or not table[name].held_out_prompts:
            raise InputError(
                f"{args.train_config}: task '{name}' has no held_out_prompts, which --prompts held_out asks for; add "
                "wordings that training has not seen, there and in conf/tasks.yaml"
            )
    turns = {name: cycle(task.held_out_prompts) for name, task in table.items()}
    return {utterance: next(turns[tasks[utterance]]) for utterance in sorted(tasks)}


def _answer(model: Speech2Text, batch: Sequence[tuple[str, Mapping[str, np.ndarray]]]) -> list[dict[str, Any]]:
    """Answers to a batch of examples; each has its share of the seconds that the model took."""
    from harmonifuse_espnet.data.preprocessor import collate

    collated = collate(batch)[1]
    start = time.perf_counter()
    answers = model.answer_batch(collated)
    seconds = (time.perf_counter() - start) / len(batch)
    return [{**asdict(answer), "seconds": seconds} for answer in answers]


def _speed(seconds: Mapping[str, float], num_samples: Mapping[str, str]) -> dict[str, float]:
    audio, took = sum(int(num_samples[key]) for key in seconds) / SAMPLE_RATE, sum(seconds.values())
    return {"audio_seconds": round(audio, 2), "seconds": round(took, 2), "rtf": round(took / audio, 4)}


def _load(location: str, feats_type: str) -> np.ndarray:
    if feats_type == "raw":
        return read_audio(location, SAMPLE_RATE)[0]
    import kaldiio

    return kaldiio.load_mat(location)


def _typical(by_length: Iterable[str], tasks: Mapping[str, str]) -> dict[str, str]:
    """Task -> its utterance of median length."""
    asked: dict[str, list[str]] = {}
    for utterance in by_length:
        asked.setdefault(tasks[utterance], []).append(utterance)
    return {task: utterances[len(utterances) // 2] for task, utterances in sorted(asked.items())}


def _write(
    out_dir: Path,
    answers: Mapping[str, Mapping[str, Any]],
    model: Speech2Text,
    tasks: Sequence[str],
    gates: Sequence[GateTrace | None],
    speed: Mapping[str, float],
) -> None:
    contents = {
        "speed.json": json.dumps(speed) + "\n",
        "selection.json": json.dumps(
            {**model.parameters(), "tasks": {task: model.selection(task) for task in tasks}}, indent=1
        )
        + "\n",
        "text": format_table((utterance, _one_line(answer["text"])) for utterance, answer in answers.items()),
    }
    ctc = {utterance: answer["ctc_text"] for utterance, answer in answers.items() if answer["ctc_text"] is not None}
    probs = {utterance: answer["label_probs"] for utterance, answer in answers.items() if answer["label_probs"]}
    if ctc:
        contents["ctc_text"] = format_table((utterance, _one_line(text)) for utterance, text in ctc.items())
    if probs:
        lines = [json.dumps({"id": utterance, "probs": row}) for utterance, row in probs.items()]
        contents["label_probs.jsonl"] = "\n".join(lines) + "\n"
    traces = [asdict(gate) for gate in gates if gate is not None]
    if traces:
        contents["gate.json"] = json.dumps(traces) + "\n"
    write_files(out_dir, contents)
    (out_dir / PARTIAL).unlink()


def _one_line(text: str) -> str:
    """Blanks and newlines within an answer become single blanks: a table has a line an utterance."""
    return " ".join(text.split())


if __name__ == "__main__":
    main()
