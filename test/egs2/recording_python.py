"""A Python that records its arguments and creates the files that the real command would create.

``RECORD`` is the file for the arguments, one JSON list a line; ``FAIL`` names a command that ends with status 3.
"""

import json
import os
import sys
from pathlib import Path

OUTPUTS = {
    "prepare_data": [],
    "download": [],
    "format_audio": ["wav.scp", "text", "utt2task"],
    "extract_features": ["feats.scp", "text", "utt2task"],
    "collect_stats": ["speech_shape", "text_shape", "feats_stats.npz"],
    "train": ["config.yaml", "valid.acc.ave.pth"],
    "decode": ["text"],
}


def value(arguments: list[str], option: str) -> str:
    """The value of an option."""
    return arguments[arguments.index(option) + 1]


def outputs(command: str, arguments: list[str]) -> list[Path]:
    """The files that a command of harmonifuse_espnet.bin creates."""
    if command == "train_tokenizer":
        names = ["tokenizer_config.json"] if "--llm" in arguments else ["tokens.txt", "bpe.model"]
        return [Path(value(arguments, "--out_dir")) / name for name in names]
    if command == "score":
        return [Path(value(arguments, "--decode_dir")) / "score.json"]
    if command in ("pack", "write_results"):
        return [Path(value(arguments, "--out"))]
    if command == "align":
        return [Path(value(arguments, "--data_dir")) / "ctm"]
    if command in ("upload", "plan", "compare"):
        return []
    folder = value(arguments, "--output_dir" if command == "train" else "--out_dir") if OUTPUTS[command] else ""
    return [Path(folder) / name for name in OUTPUTS[command]]


def main() -> None:
    """Record the arguments, fail if requested, create the outputs."""
    arguments = sys.argv[1:]
    module = next(word for word in arguments if word.startswith("harmonifuse_espnet.bin."))
    command = module.rpartition(".")[2]
    with Path(os.environ["RECORD"]).open("a", encoding="utf-8") as file:
        file.write(json.dumps(arguments) + "\n")
    print(f"this is {command}, OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']}")
    if os.environ.get("FAIL") == command:
        sys.exit(3)
    for path in outputs(command, arguments):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("made\n", encoding="utf-8")


if __name__ == "__main__":
    main()
