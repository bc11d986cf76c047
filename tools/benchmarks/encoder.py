"""Time and memory of a frozen speech encoder and the weighted sum of its layers, compared with Hugging Face's forward.

The comparison is the forward of Hugging Face's model with output_hidden_states=True, followed by the weighted sum of
the hidden states that it returns, with the same weights. Times are medians of interleaved runs. Memory is the peak
increase of the resident memory of a fresh process on the CPU, and of the memory allocated by CUDA on a GPU. Ratios are
Hugging Face's value divided by ours: above 1, ours is better. Batches marked r are ragged: their lengths decrease
evenly to a third.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from harmonifuse_espnet.common.masks import length_mask
from harmonifuse_espnet.model.encoders.self_supervised import SelfSupervisedEncoder
from harmonifuse_espnet.model.layer_weights import weighted_sum

# Hugging Face's WavLM warns about its own masks.
warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask and attn_mask")

SAMPLE_RATE = 16000
LARGE = {
    **{"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
    **{"feat_extract_norm": "layer", "do_stable_layer_norm": True},
}
MODELS = {
    "wavlm-large": {"model_type": "wavlm", **LARGE},
    "wavlm-base-plus": {"model_type": "wavlm"},
    "hubert-large": {"model_type": "hubert", "conv_bias": True, **LARGE},
    "wav2vec2-large": {"model_type": "wav2vec2", "conv_bias": True, **LARGE},
}
HEADER = "seconds  batch   ours s    HF s  ratio   ours MB     HF MB  ratio  max diff"


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        model: One of :data:`MODELS`, or a folder.
        device: ``cpu`` or ``cuda``.
        seconds: Length of the longest utterance.
        batch: Number of utterances.
        ragged: Whether lengths decrease evenly from ``seconds`` to a third of it; otherwise all are equal.
        threads: Number of CPU threads.
    """

    model: str
    device: str
    seconds: float
    batch: int
    ragged: bool
    threads: int

    def speech(self) -> tuple[Tensor, Tensor]:
        """Return noise (B, N) and its lengths (B,)."""
        shares = torch.linspace(1.0, 1.0 / 3.0, self.batch) if self.ragged else torch.ones(self.batch)
        lengths = (self.seconds * SAMPLE_RATE * shares).round().long()
        speech = 0.1 * torch.randn(self.batch, int(lengths.max()), generator=torch.Generator().manual_seed(0))
        return (speech * length_mask(lengths, speech.size(1))).to(self.device), lengths.to(self.device)

    def encoder(self) -> SelfSupervisedEncoder:
        """Return the encoder, with the same weights each time."""
        torch.manual_seed(0)
        torch.set_num_threads(self.threads)
        known = MODELS.get(self.model)
        return SelfSupervisedEncoder(None if known else self.model, known).to(self.device).eval()


def ours(encoder: SelfSupervisedEncoder, speech: Tensor, lengths: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted sum of the layers (B, T, D) for speech (B, N), by this package."""
    return weighted_sum(encoder(speech, lengths)[0], weights)


def library(encoder: SelfSupervisedEncoder, speech: Tensor, lengths: Tensor, weights: Tensor) -> Tensor:
    """Return the same weighted sum, computed from the states of Hugging Face's forward."""
    inputs = encoder.preprocess(speech, lengths).to(encoder.dtype)
    mask = length_mask(lengths, speech.size(1)).long()
    states = encoder.encoder(inputs, attention_mask=mask, output_hidden_states=True).hidden_states[1:]
    return weighted_sum(states, weights)


SIDES: tuple[Callable[..., Tensor], ...] = (ours, library)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``bench.py encoder``."""
    parser.add_argument(
        "--lengths", type=float, nargs="+", default=[5, 15, 30], metavar="SECONDS", help="lengths of the speech"
    )
    parser.add_argument(
        "--batches",
        type=int,
        nargs="+",
        default=[1, 8],
        help="batch sizes; those above 1 are run with equal and with ragged lengths",
    )
    parser.add_argument("--model", default="wavlm-large", help=f"{', '.join(MODELS)} (random weights), or a folder")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    parser.add_argument("--repeats", type=int, default=5, help="maximum number of runs of a case")
    parser.add_argument(
        "--budget", type=float, default=60.0, help="time limit of a case in seconds: no run starts after it"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="number of CPU threads")


@torch.no_grad()
def run(args: argparse.Namespace) -> None:
    """Print the table, a row for each case."""
    print(f"{args.model}, {args.device}, {args.threads} threads, torch {torch.__version__}\n{HEADER}", flush=True)
    encoder: SelfSupervisedEncoder | None = None
    for case in cases(args):
        peaks = [in_fresh_process(peak_memory, case, side.__name__) for side in SIDES]
        encoder = encoder or case.encoder()
        times, difference = compare(encoder, case, args.repeats, args.budget)
        print(row(case, times, peaks, difference), flush=True)


def cases(args: argparse.Namespace) -> Iterator[Case]:
    """Yield the rows of the table."""
    for seconds in args.lengths:
        for batch in args.batches:
            for ragged in (False, True)[: 1 + (batch > 1)]:
                yield Case(args.model, args.device, seconds, batch, ragged, args.threads)


def compare(encoder: SelfSupervisedEncoder, case: Case, repeats: int, budget: float) -> tuple[list[float], float]:
    """Return the median seconds of each implementation and the largest difference of their sums at a valid frame."""
    speech, lengths = case.speech()
    weights = torch.full((case.batch, encoder.num_layers), 1.0 / encoder.num_layers, device=case.device)
    for side in SIDES:  # warm-up
        side(encoder, speech[:1, : SAMPLE_RATE // 2], lengths[:1].clamp(max=SAMPLE_RATE // 2), weights[:1])
    began, taken, sums = time.perf_counter(), ([], []), []
    while len(taken[0]) < repeats and (not sums or time.perf_counter() - began < budget):
        sums = []
        for side, times in zip(SIDES, taken, strict=True):
            _wait(case.device)
            start = time.perf_counter()
            sums.append(side(encoder, speech, lengths, weights))
            _wait(case.device)
            times.append(time.perf_counter() - start)
    valid = length_mask(encoder.frame_lengths(lengths), sums[0].size(1))
    difference = (sums[0] - sums[1])[valid].abs().max().item()
    return [statistics.median(times) for times in taken], difference


@torch.no_grad()
def peak_memory(case: Case, side: str) -> float:
    """Return the peak memory of one forward in megabytes, without the model and its input; needs a fresh process."""
    encoder = case.encoder()
    forward = next(chosen for chosen in SIDES if chosen.__name__ == side)
    weights = torch.full((case.batch, encoder.num_layers), 1.0 / encoder.num_layers, device=case.device)
    warm_up = Case(case.model, case.device, 0.5, 1, False, case.threads)
    forward(encoder, *warm_up.speech(), weights[:1])
    speech = case.speech()
    if case.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        forward(encoder, *speech, weights)
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak, VmHWM (man 5 proc)
    before = _resident("VmRSS")
    forward(encoder, *speech, weights)
    return _resident("VmHWM") - before


def in_fresh_process(function: Callable[..., float], *inputs: object) -> float:
    """Return ``function(*inputs)``, called in a new process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *inputs).result()


def row(case: Case, times: list[float], peaks: list[float], difference: float) -> str:
    """Return a row of the table under :data:`HEADER`."""
    batch = f"{case.batch}{'r' if case.ragged else ''}"
    spent = f"{times[0]:9.3f} {times[1]:7.3f} {times[1] / times[0]:6.2f}"
    held = f"{peaks[0]:9.1f} {peaks[1]:9.1f} {peaks[1] / peaks[0] if peaks[0] else float('inf'):6.2f}"
    return f"{case.seconds:7g} {batch:>6} {spent} {held}  {difference:.1e}"


def _resident(field: str) -> float:
    """Return the resident memory of this process in megabytes: now (``VmRSS``) or its peak (``VmHWM``)."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1.024e-3  # "kB" are units of 1024 bytes


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
