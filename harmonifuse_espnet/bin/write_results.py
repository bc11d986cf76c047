"""Stage 8, second half: RESULTS.md and its pictures, from the scores of one or more experiments."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from harmonifuse_espnet import pictures
from harmonifuse_espnet.bin import friendly_errors
from harmonifuse_espnet.files import write_files
from harmonifuse_espnet.results import Scored, environment, experiment, picture_links, read_scores

LAYERS = (("speech encoder", "layer_weights"), ("language model", "fusion_weights"))


def get_parser() -> argparse.ArgumentParser:
    """The options of this command."""
    parser = argparse.ArgumentParser(
        prog="python -m harmonifuse_espnet.bin.write_results",
        description="Collect decode_*/<test_set>/score.json into RESULTS.md, draw the pictures, print the file.",
    )
    parser.add_argument("--exp_dir", required=True, action="append", help="an experiment; may be given again")
    parser.add_argument("--out", required=True, help="the file to write; its pictures go to images/ beside it")
    parser.add_argument(
        "--train_config", action="append", default=[], help="the config to link, once for each --exp_dir, in its order"
    )
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Write the pictures and RESULTS.md, and print it."""
    parser = get_parser()
    args = parser.parse_args(cmd)
    if args.train_config and len(args.train_config) != len(args.exp_dir):
        parser.error(
            f"{len(args.exp_dir)} --exp_dir but {len(args.train_config)} --train_config; give one for each or none"
        )
    with friendly_errors():
        out = Path(args.out)
        parts = [
            "# RESULTS\n\nMade by `harmonifuse_espnet.bin.write_results`; do not edit.",
            environment(datetime.now()),
        ]
        for name, config in zip(args.exp_dir, args.train_config or [None] * len(args.exp_dir), strict=True):
            exp_dir = Path(name)
            scored = read_scores(exp_dir)
            parts.append(experiment(exp_dir, scored, out.parent, Path(config) if config else None))
            shown = [(caption, _copy_beside(path, exp_dir, out)) for caption, path in draw(exp_dir, scored)]
            parts += [picture_links(shown, out.parent)] if shown else []
        text = "\n\n".join(parts) + "\n"
        write_files(out.parent, {out.name: text})
        print(text, end="")


def draw(exp_dir: Path, scored: Sequence[Scored]) -> Iterator[tuple[str, Path]]:
    """Draw an experiment's pictures into ``<exp_dir>/images`` and give each one's caption and file."""
    tag, images = exp_dir.resolve().name, exp_dir / "images"
    if (exp_dir / "tensorboard").is_dir():
        path = images / "training_curves.png"
        pictures.draw_training_curves(pictures.read_curves(exp_dir / "tensorboard"), f"{tag}: training", path)
        yield f"training curves of {tag}", path
    for one in scored:
        for task, entry in one.tasks.items():
            if entry["answer"] == "label":
                score, path = entry["scores"]["llm"], images / f"confusion_{task}_{one.decode}_{one.test_set}.png"
                pictures.draw_confusion(score["labels"], score["confusion"], f"{task} on {one.name}", path)
                yield f"confusion matrix of {task} on {one.name}", path
    for decode in sorted({one.decode for one in scored}):
        weights = layer_weights([one for one in scored if one.decode == decode])
        if weights:
            path = images / f"layer_weights_{decode}.png"
            pictures.draw_layer_weights(weights, f"weights of the layers by task\n{tag}\n{decode}", path)
            yield f"layer weights by task in {decode}", path


def layer_weights(scored: Sequence[Scored]) -> dict[str, dict[str, list[float]]]:
    """What is weighted -> task -> weights; a task that weighs differently on two test sets has a row for each."""
    weights: dict[str, dict[str, list[float]]] = {}
    for title, key in LAYERS:
        rows: dict[str, list[float]] = {}
        for one in scored:
            for task, entry in one.selection.items():
                if entry.get(key) and rows.get(task) != entry[key]:
                    rows[task if task not in rows else f"{task}, {one.test_set}"] = entry[key]
        weights |= {title: rows} if rows else {}
    return weights


def _copy_beside(picture: Path, exp_dir: Path, out: Path) -> Path:
    copy = out.parent / "images" / f"{exp_dir.resolve().name}_{picture.name}"
    write_files(copy.parent, {copy.name: picture.read_bytes()})
    return copy


if __name__ == "__main__":
    main()
