"""Stage 8, second half: RESULTS.md and its pictures, from the scores of one or more experiments."""

from __future__ import annotations

import argparse
import glob
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import cycle
from pathlib import Path

from harmonifuse_espnet import pictures
from harmonifuse_espnet.bin import friendly_errors
from harmonifuse_espnet.files import write_files
from harmonifuse_espnet.results import Scored, environment, experiment, mean_of_folds, picture_links, read_scores

LAYERS = (("speech encoder", "layer_weights"), ("language model", "fusion_weights"))


def get_parser() -> argparse.ArgumentParser:
    """The options of this command."""
    parser = argparse.ArgumentParser(
        prog="python -m harmonifuse_espnet.bin.write_results",
        description="Collect decode_*/<test_set>/score.json into RESULTS.md, draw the pictures, print the file.",
    )
    experiments = parser.add_mutually_exclusive_group(required=True)
    experiments.add_argument("--exp_dir", action="append", help="an experiment; may be given again")
    experiments.add_argument(
        "--folds", metavar="GLOB", help="all folds of a cross-validation, as far as they are scored; adds their mean"
    )
    parser.add_argument("--out", required=True, help="the file to write; its pictures go to images/ beside it")
    parser.add_argument(
        "--train_config",
        action="append",
        default=[],
        help="the config to link: the folds', or once for each --exp_dir, in its order",
    )
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Write the pictures and RESULTS.md, and print it."""
    parser = get_parser()
    args = parser.parse_args(cmd)
    expected = 1 if args.folds else len(args.exp_dir)
    if args.train_config and len(args.train_config) != expected:
        parser.error(f"{expected} --train_config expected, or none, got {len(args.train_config)}")
    with friendly_errors():
        out = Path(args.out)
        experiments = find_folds(args.folds) if args.folds else [Path(name) for name in args.exp_dir]
        configs: list[Path | None] = [Path(name) for name in args.train_config] or [None]
        scored = {exp_dir: read_scores(exp_dir) for exp_dir in experiments}
        parts = [
            "# RESULTS\n\nMade by `harmonifuse_espnet.bin.write_results`; do not edit.",
            environment(datetime.now()),
            *([mean_of_folds(list(scored.values()))] if len(scored) > 1 and args.folds else []),
        ]
        for (exp_dir, scores), config in zip(scored.items(), cycle(configs), strict=False):
            prefix = f"{exp_dir.parent.name}_{exp_dir.name}" if args.folds else exp_dir.resolve().name
            parts += illustrated(exp_dir, scores, out, config, prefix)
        text = "\n\n".join(parts) + "\n"
        write_files(out.parent, {out.name: text})
        print(text, end="")


def illustrated(
    exp_dir: Path, scored: Sequence[Scored], out: Path, train_config: Path | None, prefix: str
) -> list[str]:
    """The section of one experiment, and the one of its pictures, drawn and copied to ``images/<prefix>_*``."""
    shown = [(caption, _copy_beside(path, prefix, out)) for caption, path in draw(exp_dir, scored)]
    pictures_section = [picture_links(shown, out.parent)] if shown else []
    return [experiment(exp_dir, scored, out.parent, train_config), *pictures_section]


def find_folds(pattern: str) -> list[Path]:
    """The scored experiments that a glob names, sorted.

    Raises:
        FileNotFoundError: if there is none.
    """
    folds = sorted(Path(name) for name in glob.glob(pattern))
    scored = [fold for fold in folds if any(fold.glob("decode_*/*/score.json"))]
    if not scored:
        raise FileNotFoundError(f"{pattern}: none of the {len(folds)} experiments there is scored; run stages 7 and 8")
    return scored


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


def _copy_beside(picture: Path, prefix: str, out: Path) -> Path:
    copy = out.parent / "images" / f"{prefix}_{picture.name}"
    write_files(copy.parent, {copy.name: picture.read_bytes()})
    return copy


if __name__ == "__main__":
    main()
