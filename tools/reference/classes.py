"""Classes that an option chooses: the choices, and the arguments of each with their documentation."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterable

from harmonifuse_espnet.model.fusion import LAST_BIAS
from reference.markdown import code, inline, table

# Arguments that harmonifuse_espnet/train/build.py sets; all other arguments can be in the _conf of the option.
GIVEN: dict[str, set[str]] = {
    "frontend": {"feats_stats"},
    "layer_weights": {"num_layers", "num_tasks", "summary_size"},
    "component_gate": {"input_size", "output_size", "summary_size", "num_tasks"},
    "connector": {"input_size", "output_size"},
    "decoder": {"vocab_size"},
    "fusion": {"num_layers", "num_tasks", "summary_size"},
    "label_output": {"num_labels", "size"},
    "model": {"preamble_ids", "opening_ids"},
    "ctc": {"input_size", "vocab_size"},
    "preprocessor": {"train", "tasks", "tokenizer", "ctc_tokenizer", "data_dir"},
}
OTHER_DEFAULTS = {("fusion", "last_bias"): LAST_BIAS}  # defaults that build.py uses instead of those of the constructor
CLASSES = {  # option without a choice of classes -> the class that takes its _conf
    "model": "harmonifuse_espnet.model.harmonifuse.HarmoniFuseModel",
    "ctc": "harmonifuse_espnet.model.ctc.CTCHead",
    "preprocessor": "harmonifuse_espnet.data.preprocessor.HarmoniFusePreprocessor",
}


def choices_section(name: str) -> str:
    """Return the table of an option's classes, and a table of arguments for each set of arguments."""
    from harmonifuse_espnet.train.registry import CLASS_CHOICES

    choices = next(each for each in CLASS_CHOICES if each.name == name)
    rows = [
        [f"`{key}`" + (" (default)" if key == choices.default else ""), f"`{chosen.__name__}`", _summary(chosen)]
        for key, chosen in choices.classes.items()
        if chosen is not None
    ]
    if choices.optional:
        rows.append(["`none`", "", "Without this component."])
    parts = [table([f"`{name}`", "class", "description"], rows)]
    tables: dict[str, list[str]] = {}
    for key, chosen in choices.classes.items():
        tables.setdefault(_arguments(chosen, name) if chosen else "", []).append(f"`{key}`")
    parts += [f"Arguments of {', '.join(keys)}:\n\n{rows}" for rows, keys in tables.items() if rows]
    return "\n\n".join(parts)


def class_section(name: str) -> str:
    """Return the table of arguments of the class that takes ``<name>_conf``."""
    return _arguments(load(CLASSES[name]), name)


def load(path: str) -> type:
    """Import a class by its full name."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def argument_docs(chosen: type) -> dict[str, str]:
    """Return the text for each argument in the docstrings of a class and its bases; the class itself has precedence.

    Where a docstring says ``As in :class:`X```, the text is that of X.
    """
    docs: dict[str, str] = {}
    for each in chosen.__mro__:
        for name, text in _parse_arguments(inspect.cleandoc(each.__dict__.get("__doc__") or "")):
            other = re.match(r"(?:As in|See|Of) :class:`([\w.]+)`", text)
            docs.setdefault(name, argument_docs(load(other[1])).get(name, text) if other else text)
    return docs


def _arguments(chosen: type, option: str) -> str:
    docs = argument_docs(chosen)
    rows = []
    for parameter in inspect.signature(chosen).parameters.values():
        required = parameter.default is parameter.empty
        if parameter.name in GIVEN[option] or (required and option in CLASSES):
            continue
        default = "required" if required else code(OTHER_DEFAULTS.get((option, parameter.name), parameter.default))
        rows.append([f"`{parameter.name}`", default, inline(docs.get(parameter.name, ""))])
    return table([f"`{option}_conf`", "default", "description"], rows) if rows else ""


def _summary(chosen: type) -> str:
    return inline(inspect.cleandoc(chosen.__doc__ or "").split("\n\n")[0])


def _parse_arguments(docstring: str) -> Iterable[tuple[str, str]]:
    """Return the names and texts in the ``Args:`` section; ``a, b: text`` counts for both names."""
    found = re.search(r"^Args:\n((?:[ ]{4}.*\n|\n)*)", docstring + "\n", re.MULTILINE)
    for entry in re.split(r"\n(?=[ ]{4}\S)", "\n" + found[1]) if found else []:
        names, colon, text = entry.strip().partition(":")
        if colon:
            yield from ((name.strip(), text.strip()) for name in names.split(","))
