"""Readers of JSON: records, partial results, indices of shards, scores, gate traces."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from fuzzing.losses import count_values, lines_of, lost_count, lost_json
from fuzzing.reader import Contents, Reader, damaged
from fuzzing.tables import TASKS, UTTERANCES
from harmonifuse_espnet.ablation.comparison import ScoresByTask, read_utterances
from harmonifuse_espnet.common.experiment import read_run
from harmonifuse_espnet.common.json_file import read_json, read_json_lines
from harmonifuse_espnet.common.resuming import process_resumably
from harmonifuse_espnet.data.features import load_entries
from harmonifuse_espnet.data.provenance import MADE_FROM, check_sources, format_sources
from harmonifuse_espnet.data.shards import (
    AudioOptions,
    FormatResult,
    Source,
    format_shard,
    load_up_to_date,
    make_shards,
)
from harmonifuse_espnet.evaluation.scores import ScoredSet, read_scores, read_utterance_scores
from harmonifuse_espnet.evaluation.scoring import score
from harmonifuse_espnet.inference.align import read_settings
from harmonifuse_espnet.inference.gate_trace import GateTrace, read_gates
from harmonifuse_espnet.inference.model_cache import MANIFEST, MODEL, is_intact

IDS = ("u1", "u2", "u3")
OPTIONS = AudioOptions("flac", 16000, 0.0, 30.0)
RUN = {"jobs": 1, "audio_seconds": 3.5, "config": {"optim": "adam", "lr": [1e-3, 0]}, "train_args": "", "fused": None}
SCORES = {
    "test_set": "test",
    "utterances": 3,
    "leaks": None,
    "tasks": {
        "asr": {
            "answer": "text",
            "utterances": 2,
            "scores": {"llm": {"wer": 12.5, "words": 8, "sentence_error_rate": 1}},
        },
        "ser": {"answer": "label", "utterances": 1, "scores": {"llm": {"ua": 50.0, "confusion": [[1, 0], [1, 0]]}}},
    },
}
UTTERANCE_SCORES = (
    {
        "id": "u1",
        "speaker": "s1",
        "task": "asr",
        "kind": "llm",
        "errors": 1,
        "words": 2,
        "char_errors": 2,
        "characters": 5,
    },
    {"id": "u3", "speaker": "s2", "task": "ser", "kind": "llm", "label": "ang", "correct": True},
)
GATE = GateTrace(
    "u1", "asr", "WRITE", "GO", 0.04, [0.5, 0.2], [0.1, 0.0], [1, 0.25], {"ser": [0.2, 0.0]}, [[1, -10], [0, 3]]
)
MADE_WITH = {"n_mels": 40, "sources": [[key, f"{key}.wav", 100, 7] for key in IDS]}


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode()


def _json_lines(*values: Any) -> bytes:
    return "".join(json.dumps(value) + "\n" for value in values).encode()


def _lost_values(name: str, text: str, found: Any) -> str:
    return lost_json(text, found)


def _lost_lines(name: str, text: str, entries: list[dict[str, Any]]) -> str:
    losses = (lost_json(line, entry) for line, entry in zip(lines_of(text), entries, strict=False))
    return lost_count(len(lines_of(text)), len(entries), "lines") or next(filter(None, losses), "")


def _old_records(folder: Path) -> Contents:
    return {
        "cost.json": [_json({"memory": 3000, "jobs": 2})],
        "made_with.json": [_json({"train": {"train_args": "--seed 1"}, "best/test": {"beam_size": 1}})],
        "speed.json": [_json({"seconds": 10.0, "rtf": 0.2})],
    }


def _lost_keys(name: str, text: str, run: dict[str, Any]) -> str:
    """Compare the keys at the top of a record; those of made_with.json have other places."""
    content = json.loads(text)
    if name == "made_with.json":
        decoding = [key for key in content if key != "train"]
        return lost_count(len(decoding), len(run["decode_configs"]), "keys") or lost_json(text, content)
    renamed = {"memory": "peak_memory_bytes"} if name == "cost.json" else {}
    missing = [key for key in content if renamed.get(key, key) not in run]
    return f"{missing} missing" if missing else lost_json(text, content)


def _partial(folder: Path) -> Contents:
    return {"partial.jsonl": [_json_lines({"model": 1}, *({"id": key, "peaks": [[0.1, 0.2]]} for key in IDS[:2]))]}


def _resume(folder: Path) -> dict[str, Any]:
    return process_resumably(
        folder / "partial.jsonl", {"model": 1}, IDS, 1, lambda batch: [{"peaks": None} for _ in batch], {"peaks"}
    )


def _lost_results(name: str, text: str, results: dict[str, Any]) -> str:
    return lost_count(len(IDS), sum("peaks" in results.get(key, {}) for key in IDS), "utterances")


def _sources(folder: Path) -> Contents:
    for name in ("dump", "stats"):
        (folder / name).mkdir()
    for name, text in UTTERANCES.items():
        (folder / "dump" / name.replace("__", ".")).write_text(text)
    return {f"stats/{MADE_FROM}": [format_sources([folder / "dump", folder / "gone"]).encode()]}


def _check_sources(folder: Path) -> str:
    check_sources(folder / "stats", "run stage 5 again")
    return format_sources([folder / "dump", folder / "gone"])


def _lost_sources(name: str, text: str, expected: str) -> str:
    """A changed record of a folder that exists must be refused."""
    recorded = json.loads(text)
    current = {source: json.loads(format_sources([source]))[source] for source in recorded if os.path.exists(source)}
    wrong = [source for source, record in current.items() if record != recorded[source]]
    return f"{wrong} differ" if wrong else lost_json(text, recorded)


def _shard(folder: Path) -> Contents:
    for key in IDS:
        soundfile.write(folder / f"{key}.wav", np.arange(-200, 200, dtype=np.int16), 16000)
    format_shard(make_shards(Source(key, str(folder / f"{key}.wav")) for key in IDS)[0], folder / "out", OPTIONS)
    return {"out/format.1/shard.json": [(folder / "out/format.1/shard.json").read_bytes()]}


def _load_shard(folder: Path) -> list[FormatResult] | None:
    shard = make_shards(Source(key, str(folder / f"{key}.wav")) for key in IDS)[0]
    return load_up_to_date(shard, folder / "out", OPTIONS)


def _lost_records(name: str, text: str, results: list[FormatResult] | None) -> str:
    return lost_count(len(IDS), len({result.id for result in results}), "utterances") if results is not None else ""


def _features(folder: Path) -> Contents:
    (folder / "feats.1.ark").touch()
    entries = {key: [f"{folder}/feats.1.ark:{number}", 100 + number] for number, key in enumerate(IDS)}
    return {"feats.1.json": [json.dumps({"made_with": MADE_WITH, "entries": entries}).encode()]}


def _lost_entries(name: str, text: str, entries: dict[str, tuple[str, int]] | None) -> str:
    return lost_count(len(IDS), len(entries), "utterances") if entries is not None else ""


def _lost_settings(name: str, text: str, settings: Any) -> str:
    return lost_json(lines_of(text)[0].removeprefix(";;"), settings) if settings is not None else ""


def _lost_traces(name: str, text: str, traces: list[GateTrace]) -> str:
    return lost_json(text, [asdict(trace) for trace in traces])


def _decoded(folder: Path) -> Contents:
    for name in ("data", "test"):
        (folder / name).mkdir()
    probs = [{"id": "u3", "probs": {"ang": 0.75, "sad": 0.25}}]
    tables = {f"data/{name}": [UTTERANCES[name].encode()] for name in ("text", "utt2spk", "utt2task")}
    hypotheses = {"test/text": [b"u1 GO\nu2\nu3 ang\n"], "test/ctc_text": [b"u1 GO OFF\nu2 YES\n"]}
    return {**tables, **hypotheses, "test/label_probs.jsonl": [_json_lines(*probs)]}


def _lost_utterances(name: str, text: str, found: tuple[dict[str, Any], list[dict[str, Any]]]) -> str:
    kinds = [(entry["kind"], "label" in entry) for entry in found[1]]
    counts = {
        "test/text": sum(kind == "llm" for kind, _ in kinds),
        "test/ctc_text": sum(kind == "ctc" for kind, _ in kinds),
        "test/label_probs.jsonl": sum(has_label for _, has_label in kinds),
    }
    return lost_count(len(lines_of(text)), counts.get(name, found[0]["utterances"]), "utterances")


def _scored(folder: Path) -> Contents:
    (folder / "decode_best/test").mkdir(parents=True)
    run = {"tasks": {"asr": {"WRITE": [0.5, 0.5]}}, "rtf": 0.5}
    return {"decode_best/test/score.json": [_json(SCORES)], "decode_best/test/run.json": [_json(run)]}


def _lost_scores(name: str, text: str, sets: list[ScoredSet]) -> str:
    content, (found,) = json.loads(text), sets
    if name.endswith("run.json"):
        return lost_json(text, content) or lost_count(
            count_values(content.get("tasks", {})), count_values(found.weights), "values"
        )
    kept = (
        {**content, "tasks": found.tasks, "leaks": found.leaks}
        if "leaks" in content
        else {**content, "tasks": found.tasks}
    )
    return lost_json(text, kept)


def _read_lines(folder: Path) -> list[dict[str, Any]]:
    return [entry for _, entry in read_json_lines(folder / "a.jsonl", "run stage 8 again")]


def _lost_speaker_scores(name: str, text: str, scores: ScoresByTask) -> str:
    return lost_count(len(lines_of(text)), sum(len(found.utterances) for found in scores.values()), "utterances")


def _cached(folder: Path) -> Contents:
    (folder / MODEL).mkdir()
    (folder / MODEL / "config.yaml").write_text("a: 1\n")
    return {MANIFEST: [_json({"config.yaml": 5})]}


def _lost_files(name: str, text: str, is_intact: bool) -> str:
    return lost_json(text, json.loads(text)) if is_intact else ""


READERS = {
    "ablation.comparison.read_utterances": Reader(
        damaged(utterances__jsonl=(_json_lines(*UTTERANCE_SCORES).decode(),)),
        lambda folder: read_utterances(folder / "utterances.jsonl"),
        _lost_speaker_scores,
    ),
    "inference.model_cache.is_intact": Reader(_cached, lambda folder: is_intact(folder) or None, _lost_files),
    "common.json_file.read_json": Reader(
        damaged(a__json=(json.dumps(RUN), json.dumps(SCORES, indent=1))),
        lambda folder: read_json(folder / "a.json", "run stage 8 again"),
        _lost_values,
    ),
    "common.json_file.read_json_lines": Reader(
        damaged(a__jsonl=(_json_lines(*UTTERANCE_SCORES).decode(),)), _read_lines, _lost_lines
    ),
    "common.experiment.read_run": Reader(damaged(run__json=(json.dumps(RUN, indent=1),)), read_run, _lost_values),
    "common.experiment.read_run (0.1)": Reader(_old_records, read_run, _lost_keys),
    "common.resuming.process_resumably": Reader(_partial, _resume, _lost_results, fallback="latin-1"),
    "data.provenance.check_sources": Reader(_sources, _check_sources, _lost_sources),
    "data.shards.load_up_to_date": Reader(_shard, _load_shard, _lost_records),
    "data.features.load_entries": Reader(
        _features,
        lambda folder: load_entries(folder / "feats.1.ark", folder / "feats.1.json", MADE_WITH),
        _lost_entries,
    ),
    "inference.align.read_settings": Reader(
        damaged(ctm=(';; {"model": {"file": "a.pth", "size": 5}, "data": "12ab"}\nu1 1 0.00 0.25 GO\n',)),
        lambda folder: read_settings(folder / "ctm"),
        _lost_settings,
    ),
    "inference.gate_trace.read_gates": Reader(
        damaged(gate__json=(json.dumps([asdict(GATE)]),)), lambda folder: read_gates(folder / "gate.json"), _lost_traces
    ),
    "evaluation.scoring.score": Reader(
        _decoded, lambda folder: score(folder / "data", folder / "test", TASKS), _lost_utterances
    ),
    "evaluation.scores.read_scores": Reader(_scored, read_scores, _lost_scores),
    "evaluation.scores.read_utterance_scores": Reader(
        damaged(utterances__jsonl=(_json_lines(*UTTERANCE_SCORES).decode(),)),
        lambda folder: read_utterance_scores(folder / "utterances.jsonl"),
        _lost_lines,
    ),
}
