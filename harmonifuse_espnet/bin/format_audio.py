"""Stage 2: format the audio of one or more data folders, and merge them into one dump folder.

Audio becomes 16-bit mono at --sample_rate, as FLAC, wav or Kaldi archives (with FLAC inside, ESPnet's type
`kaldi_ark`); with `original`, files of that rate are checked and used in place. 16-bit sources of that rate are not
changed. Other rates are resampled by torchaudio; samples beyond full scale are clamped and counted in the summary. The
dump folder gets wav.scp, text, utt2spk, spk2utt, utt2task, utt2num_samples, dropped.tsv (id, tab, reason), format.json
(options and counts) and the audio in data/.

To resume an interrupted call, run the command again; only missing, incomplete or out-of-date parts are formatted.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from harmonifuse_espnet.common.command_line import add_boolean, command_parser
from harmonifuse_espnet.common.errors import report_user_errors
from harmonifuse_espnet.common.option_types import Number, WholeNumber
from harmonifuse_espnet.data.audio import FORMATS
from harmonifuse_espnet.data.formatting import format_audio
from harmonifuse_espnet.data.shards import AudioOptions


def get_parser() -> argparse.ArgumentParser:
    parser = command_parser("format_audio", __doc__)
    add = parser.add_argument
    add("data_dirs", nargs="+", metavar="data_dir", help="data folder(s) to merge; all utterance ids must differ")
    add("--out_dir", required=True, help="dump folder to write; the paths in wav.scp begin with this value")
    formats = (*FORMATS, "kaldi_ark", "original")
    add("--audio_format", choices=formats, default="flac", help="format of the audio (default: flac)")
    add(
        "--sample_rate",
        type=WholeNumber(1),
        default=16000,
        help="sampling rate of the output in hertz (default: 16000)",
    )
    add(
        "--expected_sample_rate",
        type=WholeNumber(1),
        help="fail if a source has another rate (default: resample any rate)",
    )
    help = "drop shorter sources and digital silence; 0 keeps both, for test sets (default: 0.1)"
    add("--min_duration", type=Number(0), default=0.1, metavar="SECONDS", help=help)
    help = "drop longer sources; inf keeps all, for test sets (default: 30)"
    add("--max_duration", type=Number(0, exclusive=True), default=30.0, metavar="SECONDS", help=help)
    add_boolean(parser, "--skip_bad", default=False, help="drop unusable sources instead of failing")
    add(
        "--nj",
        type=WholeNumber(1),
        default=1,
        help="number of processes; the result does not depend on it (default: 1)",
    )
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    args = get_parser().parse_args(cmd)
    with report_user_errors():
        options = AudioOptions(
            args.audio_format, args.sample_rate, args.min_duration, args.max_duration, args.expected_sample_rate
        )
        print(format_audio(args.data_dirs, args.out_dir, options, args.nj, args.skip_bad))


if __name__ == "__main__":
    main()
