"""Build the network, the tokenizers and the iterator from the training options."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import torch
from espnet2.iterators.abs_iter_factory import AbsIterFactory
from espnet2.tasks.abs_task import IteratorOptions

from harmonifuse_espnet.common.compatibility import check_format_version, rename_options
from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.data.datadir import read_table
from harmonifuse_espnet.data.iterator import TaskIterFactory
from harmonifuse_espnet.data.stats import stats_path
from harmonifuse_espnet.data.task_batches import build_task_batches, check_utterances
from harmonifuse_espnet.data.tasks import Tasks, build_tasks
from harmonifuse_espnet.data.tokenizer import Tokenizer, load_tokenizer
from harmonifuse_espnet.model.ctc import CTCHead
from harmonifuse_espnet.model.fusion import LAST_BIAS, LastLayerFusion, LayerFusion
from harmonifuse_espnet.model.gate import Projection
from harmonifuse_espnet.model.harmonifuse import HarmoniFuseModel
from harmonifuse_espnet.model.language_model import LanguageModel
from harmonifuse_espnet.model.layer_weights import LastWeights
from harmonifuse_espnet.train.registry import (
    check_arguments,
    component_gate_choices,
    connector_choices,
    construct,
    decoder_choices,
    frontend_choices,
    fusion_choices,
    label_output_choices,
    layer_weights_choices,
)


def build_tokenizer(args: argparse.Namespace) -> Tokenizer:
    """Load the language model's tokenizer; ``--chat_template`` is false in configs older than that option."""
    return load_tokenizer(args.tokenizer, getattr(args, "chat_template", False))


def build_ctc_tokenizer(args: argparse.Namespace) -> Tokenizer | None:
    """Load the CTC head's tokenizer; return None if it shares the language model's."""
    return load_tokenizer(args.ctc_tokenizer) if args.ctc_tokenizer else None


def build_network(args: argparse.Namespace) -> HarmoniFuseModel:
    """Build the network; parts with a model name or folder load its weights, the others are initialised at random.

    Raises:
        InputError: if options contradict each other; the message names them.
    """
    check_format_version(getattr(args, "format_version", 1), "config.yaml")
    tasks, tokenizer = build_tasks(args.tasks), build_tokenizer(args)
    model_conf = rename_options("model_conf", args.model_conf)
    if model_conf.get("speech_first") and tokenizer.preamble_ids:
        raise InputError(
            "--chat_template true puts the prompt before the speech, but model_conf has speech_first: true; "
            "remove one of them"
        )
    frontend = _build_frontend(args)
    decoder = construct(decoder_choices, args, vocab_size=tokenizer.vocab_size)
    width, num_tasks = decoder.hidden_size, len(tasks)
    layer_weights = construct(layer_weights_choices, args, frontend.num_layers, num_tasks, width)
    sizes = frontend.hidden_size, args.gate_size, width, num_tasks
    gate = construct(component_gate_choices, args, *sizes, none_class=Projection)
    connector = construct(connector_choices, args, args.gate_size, width)
    fusion = _build_fusion(args, decoder, num_tasks)
    num_labels = [len(task.labels) if task.answer == "label" else 0 for task in tasks.values()]
    check_arguments("model_conf", HarmoniFuseModel, model_conf)
    return HarmoniFuseModel(
        tasks=list(tasks.values()),
        frontend=frontend,
        layer_weights=layer_weights,
        gate=gate,
        connector=connector,
        label_output=construct(label_output_choices, args, num_labels, width),
        ctc=_build_ctc(args, tasks, tokenizer, width),
        decoder=decoder,
        fusion=fusion,
        preamble_ids=tokenizer.preamble_ids,
        opening_ids=tokenizer.opening_ids,
        **model_conf,
    )


def _build_frontend(args: argparse.Namespace) -> Any:
    if args.feats_stats is None:
        return construct(frontend_choices, args)
    if args.frontend != "logmel":
        raise InputError(
            f"--feats_stats {args.feats_stats} is for the frontend logmel, but the frontend is {args.frontend}; "
            "remove it (in run.sh: --feats_normalize none)"
        )
    return construct(frontend_choices, args, feats_stats=stats_path(args.feats_stats))


def _build_fusion(args: argparse.Namespace, decoder: LanguageModel, num_tasks: int) -> LayerFusion:
    sizes = decoder.num_layers, num_tasks, decoder.hidden_size
    weights = construct(fusion_choices, args, *sizes, defaults={"last_bias": LAST_BIAS})
    return LastLayerFusion(weights) if isinstance(weights, LastWeights) else LayerFusion(weights, decoder.final_norm)


def _build_ctc(args: argparse.Namespace, tasks: Tasks, tokenizer: Tokenizer, width: int) -> CTCHead | None:
    if not args.ctc or all(task.answer != "text" for task in tasks.values()):
        return None
    vocab_size = (build_ctc_tokenizer(args) or tokenizer).vocab_size
    check_arguments("ctc_conf", CTCHead, args.ctc_conf)
    return CTCHead(width, vocab_size, **args.ctc_conf)


def build_task_iter_factory(args: argparse.Namespace, options: IteratorOptions, dataset: Any) -> AbsIterFactory:
    """Build the iterator over a data set: the batches of each task, and the task schedule.

    Args:
        args: Training options.
        options: ESPnet's options for the training or the validation set.
        dataset: ESPnet's dataset of preprocessed utterances.

    Raises:
        InputError: if tables and shape files have different utterances, or the validation set lacks a trained task.
    """
    world_size = torch.distributed.get_world_size() if options.distributed else 1
    paths = {name: path for path, name, _ in options.data_path_and_name_and_type}
    check_utterances({paths[name]: set(table) for name, table in dataset.loader_dict.items()}, options.shape_files)
    utt2task, pattern, task_batches = read_table(paths["task"]), args.task_pattern, args.task_batches
    present = set(utt2task.values())
    if not options.train:
        (train_tasks,) = (path for path, name, _ in args.train_data_path_and_name_and_type if name == "task")
        check_validation_tasks(paths["task"], present, train_tasks, pattern)
        if isinstance(pattern, Mapping):  # a task of weight 0 need not be in the validation set
            pattern = {task: weight for task, weight in pattern.items() if weight or task in present}
        task_batches = {task: conf for task, conf in task_batches.items() if task in present}
    sampler = {
        "type": options.batch_type,
        "batch_size": options.batch_size,
        "batch_bins": options.batch_bins,
        "fold_lengths": args.fold_length,
        "sort_in_batch": args.sort_in_batch,
        "sort_batch": args.sort_batch,
        "drop_last": args.drop_last_iter,
        "min_batch_size": max(world_size, args.min_batch_size),
    }
    streams = build_task_batches(
        utt2task,
        options.shape_files,
        sampler,
        task_batches,
        args.seed,
        tasks=build_tasks(args.tasks),
        text_file=paths["text"],
    )
    return TaskIterFactory(
        streams,
        pattern=pattern,
        order=args.task_order,
        steps=options.num_iters_per_epoch,
        loader={
            "dataset": dataset,
            "seed": args.seed,
            "num_workers": args.num_workers,
            "collate_fn": options.collate_fn,
            "pin_memory": args.ngpu > 0,
        },
        shuffle=options.train,
        accum_grad=args.accum_grad if options.train else 1,
        rank=torch.distributed.get_rank() if options.distributed else 0,
        world_size=world_size,
    )


def check_validation_tasks(valid_file: str, present: set[str], train_file: str, pattern: Any) -> None:
    """Check that the validation set has every task that is trained.

    Args:
        valid_file: ``utt2task`` of the validation set.
        present: Its tasks.
        train_file: ``utt2task`` of the training set.
        pattern: ``--task_pattern``; a task of weight 0 is not trained.

    Raises:
        InputError: if a task is missing; the message names it.
    """
    trained = sorted(set(read_table(train_file).values()))
    for task in trained:
        if task not in present and not (isinstance(pattern, Mapping) and pattern.get(task) == 0):
            raise InputError(
                f"{valid_file}: no utterance of task '{task}', which {train_file} has: the best model would be chosen "
                "without it; add a validation set with this task (in run.sh: --valid_sets), or set its weight in "
                "task_pattern to 0"
            )
