"""Stage 8, first part: score the hypotheses of a test set.

Writes score.json (scores by task and kind of hypothesis, and the leak check) and utterances.jsonl (score of each
utterance, for paired significance tests): {"id", "speaker", "task", "kind"} with {"errors", "words", "char_errors",
"characters"} of a text task, {"label", "correct"} of a label task. Prints the scores, and the speakers, sentences and
utterance ids that the test set shares with the training set.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from harmonifuse_espnet.common.command_line import add_data_dir, add_tasks, command_parser
from harmonifuse_espnet.common.errors import report_user_errors
from harmonifuse_espnet.common.experiment import DecodeDir
from harmonifuse_espnet.common.files import write_files
from harmonifuse_espnet.data.tasks import build_tasks, load_tasks
from harmonifuse_espnet.evaluation.scoring import score, summary


def get_parser() -> argparse.ArgumentParser:
    parser = command_parser("score", __doc__)
    add_data_dir(parser, "dump folder of the test set, with text, utt2task and utt2spk")
    help = "dump folder of the training set, for the leak check; without it, there is no leak check"
    parser.add_argument("--train_data_dir", type=Path, help=help)
    parser.add_argument("--decode_dir", required=True, help="decode folder, with text, ctc_text and label_probs.jsonl")
    add_tasks(parser)
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    args = get_parser().parse_args(cmd)
    with report_user_errors():
        folder = DecodeDir(Path(args.decode_dir))
        tasks = build_tasks(load_tasks(args.tasks))
        scores, utterances = score(Path(args.data_dir), folder.dir, tasks, args.train_data_dir)
        contents = {
            folder.utterances.name: "".join(json.dumps(entry) + "\n" for entry in utterances),
            folder.scores.name: json.dumps(scores, indent=1, ensure_ascii=False) + "\n",
        }
        write_files(folder.dir, contents)
        print("\n".join(summary(scores)))


if __name__ == "__main__":
    main()
