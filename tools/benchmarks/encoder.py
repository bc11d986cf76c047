"""Time and memory of the frozen speech encoder and the weighted sum of its layers, beside Hugging Face's forward.

Hugging Face's side is its model's forward with output_hidden_states=True and the sum over the states that it returns,
on the same weights. Times are medians of interleaved runs; on the CPU, memory is what a fresh process comes to hold at
most beyond what it held before, on a GPU what CUDA allocates. Ratios are Hugging Face's over ours: above 1 ours is
better. A batch marked r is ragged: its lengths fall evenly to a third of the longest.
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

# Hugging Face's WavLM warns of its own masks, at each start.
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
    """One line of the table.

    Attributes:
        model: One of :data:`MODELS`, or a folder.
        device: ``cpu`` or ``cuda``.
        seconds: The longest utterance.
        batch: Utterances.
        ragged: Whether lengths fall evenly from ``seconds`` to a third of it, in place of all alike.
        threads: Of the CPU.
    """

    model: str
    device: str
    seconds: float
    batch: int
    ragged: bool
    threads: int

    def speech(self) -> tuple[Tensor, Tensor]:
        """Noise (B, N) and its lengths (B,)."""
        shares = torch.linspace(1.0, 1.0 / 3.0, self.batch) if self.ragged else torch.ones(self.batch)
        lengths = (self.seconds * SAMPLE_RATE * shares).round().long()
        speech = 0.1 * torch.randn(self.batch, int(lengths.max()), generator=torch.Generator().manual_seed(0))
        return (speech * length_mask(lengths, speech.size(1))).to(self.device), lengths.to(self.device)

    def frontend(self) -> SelfSupervisedEncoder:
        """The encoder; the same weights each time."""
        torch.manual_seed(0)
        torch.set_num_threads(self.threads)
        known = MODELS.get(self.model)
        return SelfSupervisedEncoder(None if known else self.model, known).to(self.device).eval()


def ours(frontend: SelfSupervisedEncoder, speech: Tensor, lengths: Tensor, weights: Tensor) -> Tensor:
    """Speech (B, N) -> the layers' sum (B, T, D)."""
    return weighted_sum(frontend(speech, lengths)[0], weights)


def library(frontend: SelfSupervisedEncoder, speech: Tensor, lengths: Tensor, weights: Tensor) -> Tensor:
    """The same through Hugging Face's forward."""
    inputs = frontend.prepare(speech, lengths).to(frontend.dtype)
    mask = length_mask(lengths, speech.size(1)).long()
    states = frontend.encoder(inputs, attention_mask=mask, output_hidden_states=True).hidden_states[1:]
    return weighted_sum(states, weights)


SIDES: tuple[Callable[..., Tensor], ...] = (ours, library)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``bench.py encoder``."""
    parser.add_argument("--lengths", type=float, nargs="+", default=[5, 15, 30], metavar="SECONDS")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8], help="those above 1 also with ragged lengths")
    parser.add_argument("--model", default="wavlm-large", help=f"{', '.join(MODELS)} (random weights), or a folder")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    parser.add_argument("--repeats", type=int, default=5, help="turns of a case, at most")
    parser.add_argument(
        "--budget", type=float, default=60.0, help="seconds after which no further turn of a case begins"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of the CPU")


@torch.no_grad()
def run(args: argparse.Namespace) -> None:
    """Print the table."""
    print(f"{args.model}, {args.device}, {args.threads} threads, torch {torch.__version__}\n{HEADER}", flush=True)
    frontend: SelfSupervisedEncoder | None = None
    for case in cases(args):
        peaks = [in_fresh_process(peak_memory, case, side.__name__) for side in SIDES]
        frontend = frontend or case.frontend()
        times, difference = compare(frontend, case, args.repeats, args.budget)
        print(line(case, times, peaks, difference), flush=True)


def cases(args: argparse.Namespace) -> Iterator[Case]:
    """The table's lines."""
    for seconds in args.lengths:
        for batch in args.batches:
            for ragged in (False, True)[: 1 + (batch > 1)]:
                yield Case(args.model, args.device, seconds, batch, ragged, args.threads)


def compare(frontend: SelfSupervisedEncoder, case: Case, repeats: int, budget: float) -> tuple[list[float], float]:
    """Median seconds of each side, run in turns, and the greatest difference at a valid frame."""
    speech, lengths = case.speech()
    weights = torch.full((case.batch, frontend.num_layers), 1.0 / frontend.num_layers, device=case.device)
    for side in SIDES:  # warms up
        side(frontend, speech[:1, : SAMPLE_RATE // 2], lengths[:1].clamp(max=SAMPLE_RATE // 2), weights[:1])
    began, taken, sums = time.perf_counter(), ([], []), []
    while len(taken[0]) < repeats and (not sums or time.perf_counter() - began < budget):
        sums = []
        for side, times in zip(SIDES, taken, strict=True):
            _wait(case.device)
            start = time.perf_counter()
            sums.append(side(frontend, speech, lengths, weights))
            _wait(case.device)
            times.append(time.perf_counter() - start)
    valid = length_mask(frontend.frames(lengths), sums[0].size(1))
    difference = (sums[0] - sums[1])[valid].abs().max().item()
    return [statistics.median(times) for times in taken], difference


@torch.no_grad()
def peak_memory(case: Case, side: str) -> float:
    """Megabytes that one forward holds at most, beyond the model and its input; in a process of its own."""
    frontend = case.frontend()
    forward = next(chosen for chosen in SIDES if chosen.__name__ == side)
    weights = torch.full((case.batch, frontend.num_layers), 1.0 / frontend.num_layers, device=case.device)
    warm_up = Case(case.model, case.device, 0.5, 1, False, case.threads)
    forward(frontend, *warm_up.speech(), weights[:1])
    speech = case.speech()
    if case.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        forward(frontend, *speech, weights)
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    Path("/proc/self/clear_refs").write_text("5")  # the highest mark starts from now (man 5 proc)
    before = _resident("VmRSS")
    forward(frontend, *speech, weights)
    return _resident("VmHWM") - before


def in_fresh_process(function: Callable[..., float], *inputs: object) -> float:
    """``function(*inputs)`` where nothing ran before."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *inputs).result()


def line(case: Case, times: list[float], peaks: list[float], difference: float) -> str:
    """A line under :data:`HEADER`."""
    batch = f"{case.batch}{'r' if case.ragged else ''}"
    spent = f"{times[0]:9.3f} {times[1]:7.3f} {times[1] / times[0]:6.2f}"
    held = f"{peaks[0]:9.1f} {peaks[1]:9.1f} {peaks[1] / peaks[0] if peaks[0] else float('inf'):6.2f}"
    return f"{case.seconds:7g} {batch:>6} {spent} {held}  {difference:.1e}"


def _resident(field: str) -> float:
    """Megabytes of this process now (``VmRSS``) or at most (``VmHWM``); Linux counts them in units of 1024 bytes."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1.024e-3


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
