"""Figures: training and learning curves, confusion matrices, layer weights, component gate."""

from harmonifuse_espnet.evaluation.plots.curves import Curve, Curves, draw_learning_curves, draw_training_curves
from harmonifuse_espnet.evaluation.plots.gates import draw_gates
from harmonifuse_espnet.evaluation.plots.heat_maps import draw_confusion, draw_layer_weights
from harmonifuse_espnet.evaluation.plots.tensorboard import read_curves, replace_figures

__all__ = [
    "Curve",
    "Curves",
    "draw_confusion",
    "draw_gates",
    "draw_layer_weights",
    "draw_learning_curves",
    "draw_training_curves",
    "read_curves",
    "replace_figures",
]
