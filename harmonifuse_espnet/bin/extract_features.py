"""Stage 3: dump features in place of the waveform, for people who train many heads on one small corpus.

`fbank` dumps log-mel frames, `ssl` the chosen layers of a frozen encoder (train with `frontend: precomputed`). A call
that was killed goes on where it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from harmonifuse_espnet.common.errors import InputError, report_user_errors
from harmonifuse_espnet.common.files import write_files
from harmonifuse_espnet.common.progress import progress
from harmonifuse_espnet.data.datadir import format_table, read_table


def get_parser() -> argparse.ArgumentParser:
    """The options of this command."""
    parser = argparse.ArgumentParser(
        prog="python -m harmonifuse_espnet.bin.extract_features",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--feats_type", required=True, choices=["fbank", "ssl"], help="what to dump")
    parser.add_argument("--data_dir", required=True, help="dump folder of stage 2")
    parser.add_argument("--out_dir", required=True, help="feature folder to write")
    parser.add_argument(
        "--config",
        help="YAML file: 'n_mels' for fbank; 'frontend_conf' (of the huggingface frontend) and 'layers' for ssl",
    )
    parser.add_argument("--ngpu", type=int, default=0, help="0 for the CPU, 1 for a GPU (ssl)")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Dump the features of one folder."""
    args = get_parser().parse_args(cmd)
    with report_user_errors():
        conf = yaml.safe_load(Path(args.config).read_text(encoding="utf-8")) if args.config else {}
        print(extract(args.feats_type, Path(args.data_dir), Path(args.out_dir), conf, "cuda" if args.ngpu else "cpu"))


def extract(feats_type: str, data_dir: Path, out_dir: Path, conf: dict[str, Any], device: str) -> str:
    """Dump; returns what was done.

    Raises:
        FileNotFoundError: if the dump folder of stage 2 is not complete.
        ValueError: if ``conf`` has an option that the extractor does not.
        OSError: if ``out_dir`` cannot be written.
    """
    from harmonifuse_espnet.data.features import SHARD_SIZE, dump_features
    from harmonifuse_espnet.inference.extractors import FbankExtractor, SSLExtractor

    known = {"fbank": {"n_mels"}, "ssl": {"frontend_conf", "layers"}}[feats_type]
    if set(conf) - known or (feats_type == "ssl" and "frontend_conf" not in conf):
        raise InputError(f"--config for {feats_type} has {sorted(conf)}, expected {sorted(known)}")
    names = ("wav.scp", "text", "utt2spk", "spk2utt", "utt2task", "utt2num_samples")
    tables = {name: read_table(data_dir / name) for name in names}
    wav_scp = tables.pop("wav.scp")
    extractor = FbankExtractor(**conf) if feats_type == "fbank" else SSLExtractor(**conf, device=device)
    entries: dict[str, tuple[str, int]] = {}
    count = -(-len(wav_scp) // SHARD_SIZE)
    shards = dump_features(wav_scp, extractor, out_dir / "data", {"feats_type": feats_type, **conf})
    for shard in progress(shards, count, "shards"):
        entries.update(shard)
    contents = {name: format_table(table.items()) for name, table in tables.items()}
    contents["utt2num_frames"] = format_table((key, str(frames)) for key, (_, frames) in sorted(entries.items()))
    contents["feats.scp"] = format_table((key, location) for key, (location, _) in sorted(entries.items()))
    write_files(out_dir, contents)
    return f"{out_dir}: {feats_type} features of {len(entries)} utterances"


if __name__ == "__main__":
    main()
