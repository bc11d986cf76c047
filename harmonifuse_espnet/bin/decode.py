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

from harmonifuse_espnet.answers import check_same_ids
from harmonifuse_espnet.audio import SAMPLE_RATE, read_audio
from harmonifuse_espnet.bin import friendly_errors
from harmonifuse_espnet.corpora.datadir import format_table, read_table
from harmonifuse_espnet.files import write_files
from harmonifuse_espnet.gate_trace import GateTrace, trace_gate
from harmonifuse_espnet.progress import progress

if TYPE_CHECKING:
    from harmonifuse_espnet.prompts import Tasks
    from harmonifuse_espnet.speech2text import Speech2Text

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
    parser.add_argument("--beam_size", type=int, default=1, help="hypotheses of the search; 1 is greedy search")
    parser.add_argument("--ctc_weight", type=float, default=0.0, help="of the CTC prefix scores; 0: the LM alone")
    parser.add_argument(
        "--length_penalty", type=float, default=0.0, help="0 compares sums of scores, 1 means (longer answers)"
    )
    parser.add_argument("--max_length_ratio", type=float, default=1.0, help="most tokens for each connector frame")
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
    args = _parse(cmd)
    logging.basicConfig(level=logging.WARNING)
    with friendly_errors():
        data_dir, out_dir = Path(args.data_dir), Path(args.out_dir)
        names = ("wav.scp" if args.feats_type == "raw" else "feats.scp", "utt2num_samples", "utt2task")
        tables = {name: read_table(data_dir / name) for name in names}
        check_same_ids(data_dir, tables)
        speech, lengths, tasks = tables.values()
        from harmonifuse_espnet.speech2text import Speech2Text

        device = "cuda" if args.ngpu else "cpu"
        search = {name: getattr(args, name) for name in SEARCH}
        model = Speech2Text(args.train_config, args.model_file, device, **search)
        wordings = _wordings(args, tasks, model.tasks)
        done = _resume(out_dir / PARTIAL, _identity(args))
        by_length = sorted(speech, key=lambda utterance: (-int(lengths[utterance]), utterance))
        batches = [by_length[start : start + args.batch_size] for start in range(0, len(by_length), args.batch_size)]
        left = [batch for batch in batches if not all(utterance in done for utterance in batch)]
        with (out_dir / PARTIAL).open("a", encoding="utf-8") as partial:
            for batch in progress(left, len(left), "batches"):
                examples = [
                    model.example(key, _load(speech[key], args.feats_type), tasks[key], wordings.get(key))
                    for key in batch
                ]
                for utterance, answer in _answers(model, batch, examples):
                    done[utterance] = answer
                    partial.write(json.dumps({"id": utterance, **answer}) + "\n")
                partial.flush()
        gates = [
            trace_gate(
                model,
                key,
                task,
                _load(speech[key], args.feats_type),
                args.feats_type,
                done[key]["text"],
                wordings.get(key),
            )
            for task, key in _typical(by_length, tasks).items()
        ]
        speed = _speed({key: done[key]["seconds"] for key in speech}, lengths)
        _write(out_dir, {key: done[key] for key in speech}, model, sorted(set(tasks.values())), gates, speed)
        print(
            f"{out_dir}: {len(speech)} answers to {speed['audio_seconds']} s of audio in {speed['seconds']} s, "
            f"real-time factor {speed['rtf']}"
        )


def _parse(cmd: Sequence[str] | None) -> argparse.Namespace:
    parser = get_parser()
    config = parser.parse_known_args(cmd)[0].config
    if config is not None:
        with friendly_errors():
            values = yaml.safe_load(Path(config).read_text(encoding="utf-8")) or {}
            unknown = sorted(set(values) - {action.dest for action in parser._actions})
            if unknown:
                raise ValueError(f"{config}: unknown options {unknown}; see --help")
        parser.set_defaults(**values)
    return parser.parse_args(cmd)


def _identity(args: argparse.Namespace) -> dict[str, Any]:
    """What partial answers must have been made with to be taken over."""
    stat = Path(args.model_file).stat() if Path(args.model_file).exists() else None
    made = {"model_file": args.model_file, "size": stat and stat.st_size, "mtime": stat and stat.st_mtime}
    return {**made, **{name: getattr(args, name) for name in ("data_dir", "prompts", *SEARCH)}}


def _wordings(args: argparse.Namespace, tasks: Mapping[str, str], table: Tasks) -> dict[str, str]:
    """Utterance -> its prompt; none, which is the task's first, in trained ones. The sorted ones of a task take turns.

    Raises:
        ValueError: if a task has no held-out wording.
    """
    if args.prompts not in PROMPTS:
        raise ValueError(f"--prompts is '{args.prompts}', but must be one of: {', '.join(PROMPTS)}")
    if args.prompts == "trained":
        return {}
    for name in sorted(set(tasks.values())):
        if name not in table or not table[name].held_out_prompts:
            raise ValueError(
                f"{args.train_config}: task '{name}' has no held_out_prompts, which --prompts held_out asks for; add "
                "wordings that training has not seen, there and in conf/tasks.yaml"
            )
    turns = {name: cycle(task.held_out_prompts) for name, task in table.items()}
    return {utterance: next(turns[tasks[utterance]]) for utterance in sorted(tasks)}


def _resume(path: Path, identity: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Answers of a call that was cut short, if it was the same call; else a new file that begins with who makes it."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    whole = [json.loads(line) for line in lines if line.endswith("\n")]
    kept = whole[1:] if whole and whole[0] == identity else []
    content = "".join(json.dumps(entry) + "\n" for entry in [identity, *kept])
    write_files(path.parent, {path.name: content})
    return {entry.pop("id"): entry for entry in kept}


def _answers(
    model: Speech2Text, batch: Sequence[str], examples: Sequence[Mapping[str, np.ndarray]]
) -> Iterable[tuple[str, dict[str, Any]]]:
    """Each utterance's answer with its share of the seconds that the model took."""
    from harmonifuse_espnet.preprocessor import collate

    collated = collate(list(zip(batch, examples, strict=True)))[1]
    start = time.perf_counter()
    answers = model.answer_batch(collated)
    seconds = (time.perf_counter() - start) / len(batch)
    return [(key, {**asdict(answer), "seconds": seconds}) for key, answer in zip(batch, answers, strict=True)]


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
