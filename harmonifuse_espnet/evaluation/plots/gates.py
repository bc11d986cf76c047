"""Figure of the component gate over time, below the spectrogram of the speech."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from harmonifuse_espnet.data.audio import SAMPLE_RATE
from harmonifuse_espnet.evaluation.plots.png import write_png
from harmonifuse_espnet.inference.gate_trace import LOGMEL_SHIFT, GateTrace

FREQUENCY_TICKS = (500, 1000, 2000, 4000)  # hertz
MIN_LEVEL = -60  # decibels relative to the maximum; the lower end of the colour scale
CAPTION_WIDTH = 100  # characters


def draw_gates(traces: Sequence[GateTrace], title: str, path: Path) -> None:
    """Draw the gate of each utterance over time, below its log-mel spectrogram if there is one."""
    heights = [4.2 if trace.logmel else 2.7 for trace in traces]
    figure = Figure(figsize=(8.6, 0.5 + sum(heights)), layout="constrained")
    figure.suptitle(title, fontsize="medium")
    parts = figure.subfigures(len(traces), 1, squeeze=False, height_ratios=heights)[:, 0]
    for part, trace in zip(parts, traces, strict=True):
        *above, axes = part.subplots(2 if trace.logmel else 1, 1, sharex=True, squeeze=False)[:, 0]
        for spectrogram in above:
            _draw_spectrogram(part, spectrogram, trace)
        _draw_gate(axes, trace)
        part.suptitle(_caption(trace), fontsize="small")
        part.legend(loc="outside lower center", ncols=3, fontsize="small", frameon=False)
    write_png(figure, path)


def _caption(trace: GateTrace) -> str:
    lines = [f"{trace.task}, utterance {trace.utterance}", f"prompt: {trace.prompt}", f"hypothesis: {trace.answer}"]
    return "\n".join(textwrap.shorten(line, CAPTION_WIDTH, placeholder=" …") for line in lines)


def _draw_spectrogram(figure: SubFigure, axes: Axes, trace: GateTrace) -> None:
    frames = trace.logmel
    loudest, bins = max(map(max, frames)), len(frames[0])
    levels = [[frame[row] - loudest for frame in frames] for row in range(bins)]
    half = LOGMEL_SHIFT / 2  # frames are centred at multiples of their shift
    extent = (-half, len(frames) * LOGMEL_SHIFT - half, -0.5, bins - 0.5)
    image = axes.imshow(
        levels, cmap="magma", vmin=MIN_LEVEL, vmax=0, origin="lower", aspect="auto", extent=extent, interpolation="none"
    )
    axes.set_yticks(
        [mel(hertz) / mel(SAMPLE_RATE / 2) * (bins + 1) - 1 for hertz in FREQUENCY_TICKS],
        [f"{f / 1000:g}" for f in FREQUENCY_TICKS],
    )
    axes.set(ylabel="frequency (kHz)")
    figure.colorbar(image, ax=axes, label="level (dB)")


def mel(hertz: float) -> float:
    """Convert hertz to mel (O'Shaughnessy, 1987), as the log-mel features do."""
    return 2595 * math.log10(1 + hertz / 700)


def _draw_gate(axes: Axes, trace: GateTrace) -> None:
    times = [frame * trace.frame_shift for frame in range(len(trace.mean))]
    colors = {task: f"C{number}" for number, task in enumerate(sorted([trace.task, *trace.others]))}
    own = colors[trace.task]
    axes.plot(times, trace.mean, color=own, label=f"mean over channels, task {trace.task}")
    axes.fill_between(times, trace.low, trace.high, color=own, alpha=0.2, lw=0, label="10th to 90th percentile")
    for task, mean in trace.others.items():
        axes.plot(times, mean, "--", color=colors[task], label=f"mean over channels, same speech, task {task}")
    axes.set(xlabel="time (s)", xlim=(0.0, times[-1]), ylim=(0.0, 1.0))
    axes.set_yticks([0, 0.5, 1], ["0 paralinguistic", "0.5", "1 linguistic"])
    axes.set_ylabel("gate")
    axes.grid(alpha=0.3)
