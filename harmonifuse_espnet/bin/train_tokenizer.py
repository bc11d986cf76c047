"""Stage 4: train a sentencepiece tokenizer on the transcripts and prompts, or keep a language model's own.

Trained: writes bpe.model and tokens.txt (a piece a line, in the order of ids). The words of every label and prompt in
the table of tasks become one token each; --ctc true leaves them out, as the CTC head writes nothing but transcripts.
With --llm or --llm_of: saves that model's tokenizer files, after checking that labels can be told apart.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from harmonifuse_espnet.common.command_line import boolean
from harmonifuse_espnet.common.config import read_config
from harmonifuse_espnet.common.errors import InputError, report_user_errors
from harmonifuse_espnet.common.files import write_files, writing
from harmonifuse_espnet.data.targets import read_targets
from harmonifuse_espnet.data.tasks import Tasks, build_tasks, load_tasks
from harmonifuse_espnet.data.tokenizer import (
    HUGGING_FACE_FILE,
    SENTENCEPIECE_FILE,
    HuggingFaceTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
)
from harmonifuse_espnet.data.tokenizer_training import MODEL_TYPES, check_labels, check_round_trip, train_sentencepiece


def get_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data_dir", required=True, help="training set: data, dump or feature folder with text and utt2task")
    add("--tasks", required=True, help="table of tasks (conf/tasks.yaml)")
    add("--out_dir", required=True, help="folder to write the tokenizer to")
    add("--vocab_size", type=int, default=100, help="largest number of pieces, labels included (default: 100)")
    add("--model_type", choices=MODEL_TYPES, default="unigram", help="kind of pieces (default: unigram)")
    add("--ctc", type=boolean, default=False, metavar="BOOL", help="units of the CTC head (default: false)")
    add("--llm", help="keep the tokenizer of this model instead (name on the Hugging Face hub, or a folder)")
    add(
        "--llm_of", metavar="CONFIG", help="the same, of the model in this training configuration; --llm goes before it"
    )
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    with report_user_errors():
        tasks = build_tasks(load_tasks(args.tasks))
        answers = read_targets(args.data_dir, tasks).values()
        transcripts = [words for task, words in answers if task.answer == "text"]
        llm = args.llm or (configured_llm(Path(args.llm_of)) if args.llm_of else None)
        if llm:
            tokenizer: Tokenizer = keep_tokenizer(llm, tasks, Path(args.out_dir))
        else:
            if args.ctc and not transcripts:
                raise InputError(f"{args.data_dir}: no transcripts for --ctc true; leave out --ctc_tokenizer_type")
            spoken = {} if args.ctc else tasks
            tokenizer = train_tokenizer(transcripts, spoken, Path(args.out_dir), args.vocab_size, args.model_type)
        heard = transcripts if args.ctc else [words for _, words in answers]
        print(report(tokenizer, heard, Path(args.out_dir)))


def configured_llm(train_config: Path) -> str:
    """The language model's name or folder in a training configuration, ``decoder_conf.model``.

    Raises:
        ValueError: if there is none, or the configuration cannot be read.
        FileNotFoundError: if there is no such configuration.
    """
    llm = (read_config(train_config).get("decoder_conf") or {}).get("model")
    if not llm:
        raise InputError(f"{train_config}: its decoder_conf names no 'model' whose tokenizer could be kept; give --llm")
    return str(llm)


def train_tokenizer(
    transcripts: Sequence[str], tasks: Tasks, out_dir: Path, vocab_size: int, model_type: str
) -> SentencePieceTokenizer:
    """Train on transcripts, with labels and the prompts' words as tokens of their own, check, and write ``out_dir``.

    Raises:
        ValueError: if the vocabulary is too small, or a text or label does not survive encoding.
        OSError: if the folder cannot be written.
    """
    prompts = [prompt for task in tasks.values() for prompt in task.prompts]
    labels = [words for task in tasks.values() for words in task.labels.values()]
    # Without transcripts the prompts are all that teaches pieces; nothing but symbols would crash sentencepiece.
    words = [word for prompt in prompts for word in prompt.split()] if transcripts else []
    model = train_sentencepiece([*transcripts, *prompts], [*labels, *words], vocab_size, model_type)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / SENTENCEPIECE_FILE).write_bytes(model)
        tokenizer = SentencePieceTokenizer(folder)
    tokenizer.name = str(out_dir)
    check_round_trip(tokenizer, [*transcripts, *prompts, *labels])
    check_labels(tokenizer, tasks)
    pieces = "".join(f"{tokenizer.processor.id_to_piece(i)}\n" for i in range(len(tokenizer)))
    write_files(out_dir, {"tokens.txt": pieces, SENTENCEPIECE_FILE: model})
    return tokenizer


def keep_tokenizer(llm: str, tasks: Tasks, out_dir: Path) -> HuggingFaceTokenizer:
    """Save a language model's tokenizer files to ``out_dir``, in place of a trained one if there was one.

    Raises:
        ValueError: if it has no eos token, or cannot tell two labels apart.
        OSError: if there is no such model, or the folder cannot be written.
    """
    tokenizer = HuggingFaceTokenizer(llm)
    check_labels(tokenizer, tasks)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.inner.save_pretrained(folder)
        files = {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}
    files[HUGGING_FACE_FILE] = files.pop(HUGGING_FACE_FILE)  # the last: it says that the tokenizer is there
    write_files(out_dir, files)
    with writing(out_dir):
        for name in ("tokens.txt", SENTENCEPIECE_FILE):
            (out_dir / name).unlink(missing_ok=True)
    return tokenizer


def report(tokenizer: Tokenizer, answers: Sequence[str], out_dir: Path) -> str:
    """Size, tokens an answer, and how many tokens of the answers are unknown."""
    ids = [tokenizer.encode(words) for words in answers]
    tokens = sum(map(len, ids))
    unknown = sum(sentence.count(tokenizer.unk_id) for sentence in ids) if tokenizer.unk_id is not None else 0
    return (
        f"{out_dir}: {tokenizer.vocab_size} tokens; {tokens / len(ids):.1f} an answer ({len(ids)} answers), "
        f"{100 * unknown / max(tokens, 1):.2f} % unknown"
    )


if __name__ == "__main__":
    main()
