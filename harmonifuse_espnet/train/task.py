"""HarmoniFuse as an ESPnet task: the options, and how they become a model, a preprocessor and an iterator.

This is the only file that knows ``args``; modules take plain values.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from espnet2.iterators.abs_iter_factory import AbsIterFactory
from espnet2.tasks.abs_task import AbsTask, IteratorOptions
from espnet2.torch_utils.initialize import initialize
from espnet2.train.abs_espnet_model import AbsESPnetModel
from espnet2.train.trainer import Trainer
from espnet2.utils.nested_dict_action import NestedDictAction
from espnet2.utils.types import str2bool, str_or_none

from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.data.datadir import read_table
from harmonifuse_espnet.data.iterator import TaskIterFactory, task_batches
from harmonifuse_espnet.data.preprocessor import HarmoniFusePreprocessor, collate
from harmonifuse_espnet.data.schedule import ORDERS
from harmonifuse_espnet.data.stats import stats_path
from harmonifuse_espnet.data.tasks import build_tasks, load_tasks
from harmonifuse_espnet.data.tokenizer import Tokenizer, load_tokenizer
from harmonifuse_espnet.model.ctc import CTCHead
from harmonifuse_espnet.model.fusion import LAST_BIAS, LastLayerFusion, LayerFusion
from harmonifuse_espnet.model.gate import Projection
from harmonifuse_espnet.model.harmonifuse import HarmoniFuseModel
from harmonifuse_espnet.model.layer_weights import LastWeights
from harmonifuse_espnet.train.parameters import check_scheduler, count_parameters, format_counts, freeze, regroup
from harmonifuse_espnet.train.registry import (
    CLASS_CHOICES,
    checked,
    component_gate_choices,
    connector_choices,
    construct,
    decoder_choices,
    frontend_choices,
    fusion_choices,
    label_output_choices,
    layer_weights_choices,
)


class HarmoniFuseTask(AbsTask):
    """ESPnet's trainer for :class:`harmonifuse_espnet.model.harmonifuse.HarmoniFuseModel`."""

    num_optimizers = 1
    trainer = Trainer
    class_choices_list = CLASS_CHOICES

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """The options beyond ESPnet's own."""
        group = parser.add_argument_group(description="HarmoniFuse")
        add = group.add_argument
        add("--tasks", type=_tasks, help="table of tasks, a YAML file (see prompts.py)")
        add("--tokenizer", type=str, help="sentencepiece model, or a Hugging Face tokenizer's folder or name")
        add("--chat_template", type=str2bool, default=False, help="whether prompts go into the tokenizer's template")
        add("--ctc_tokenizer", type=str_or_none, help="tokens of the CTC head; the tokenizer's own if none")
        add("--ctc", type=str2bool, default=True, help="whether to have a CTC head, where a task answers with text")
        add("--ctc_conf", action=NestedDictAction, default={}, help="arguments of CTCHead")
        add("--feats_stats", type=str_or_none, help="feats_stats.npz for the log-mel frontend's normalisation")
        add("--gate_size", type=int, default=256, help="width after the component gate")
        add("--model_conf", action=NestedDictAction, default={}, help="arguments of HarmoniFuseModel")
        add("--preprocessor_conf", action=NestedDictAction, default={}, help="arguments of the preprocessor")
        add("--init", type=str_or_none, default=None, help="initialisation of ESPnet; PyTorch's own if none")
        add("--task_pattern", type=yaml.safe_load, default="round_robin", help="also: proportional, {asr: 2, ser: 1}")
        add("--task_order", choices=tuple(ORDERS), default="interleaved", help="what becomes of the pattern's turns")
        help = "batch options by task: {asr: {type: folded, redraw: 0.1}, ser: {type: unsorted, balanced: true}}"
        add("--task_batches", action=NestedDictAction, default={}, help=help)
        help = "optimizer's options by names: '[{match: lora_, lr: 1.0e-4}, {match: ^gate, weight_decay: 0.0}]'"
        add("--optim_groups", type=yaml.safe_load, default=[], help=help)
        for choices in cls.class_choices_list:
            choices.add_arguments(group)
        parser.set_defaults(
            iterator_type="task", unused_parameters=True, num_att_plot=0, required=["output_dir", "tasks", "tokenizer"]
        )

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> AbsESPnetModel:
        """Build the network from a config.

        Raises:
            ValueError: if parts do not fit each other; the message names the option.
        """
        tasks = build_tasks(args.tasks)
        tokenizer = language_tokenizer(args)
        if args.model_conf.get("speech_first") and tokenizer.preamble_ids:
            raise InputError(
                "--chat_template true puts the prompt before the speech, model_conf has speech_first: true; "
                "leave out one of them"
            )
        frontend = cls._build_frontend(args)
        decoder = construct(decoder_choices, args, vocab_size=tokenizer.vocab_size)
        width, count = decoder.hidden_size, len(tasks)
        layer_weights = construct(layer_weights_choices, args, frontend.num_layers, count, width)
        gate = construct(
            component_gate_choices, args, frontend.hidden_size, args.gate_size, width, count, otherwise=Projection
        )
        connector = construct(connector_choices, args, args.gate_size, width)
        args.fusion_conf = {"last_bias": LAST_BIAS, **args.fusion_conf}
        fusion_weights = construct(fusion_choices, args, decoder.num_layers, count, width)
        fusion = (
            LastLayerFusion(fusion_weights)
            if isinstance(fusion_weights, LastWeights)
            else LayerFusion(fusion_weights, decoder.final_norm)
        )
        num_labels = [len(task.labels) if task.answer == "label" else 0 for task in tasks.values()]
        label_output = construct(label_output_choices, args, num_labels, width)
        ctc = None
        if args.ctc and any(task.answer == "text" for task in tasks.values()):
            ctc_size = load_tokenizer(args.ctc_tokenizer).vocab_size if args.ctc_tokenizer else tokenizer.vocab_size
            ctc = checked("ctc_conf", CTCHead, args.ctc_conf)(width, ctc_size, **args.ctc_conf)
        model = checked("model_conf", HarmoniFuseModel, args.model_conf)(
            tasks=list(tasks.values()),
            frontend=frontend,
            layer_weights=layer_weights,
            gate=gate,
            connector=connector,
            ctc=ctc,
            decoder=decoder,
            fusion=fusion,
            label_output=label_output,
            preamble_ids=tokenizer.preamble_ids,
            opening_ids=tokenizer.opening_ids,
            **args.model_conf,
        )
        if args.init is not None:
            initialize(model, args.init)
        freeze(model, args.freeze_param)
        return model

    @classmethod
    def build_optimizers(cls, args: argparse.Namespace, model: torch.nn.Module) -> list[torch.optim.Optimizer]:
        """ESPnet's optimizer, its parameters in the groups of ``--optim_groups``; logs who learns.

        Raises:
            ValueError: if a group matches nothing that is trained, or the scheduler would undo its learning rate.
        """
        logging.info(f"Parameters:\n{format_counts(count_parameters(model))}")
        (optimizer,) = super().build_optimizers(args, model)
        regroup(optimizer, dict(model.named_parameters()), args.optim_groups)
        check_scheduler(optimizer, args.scheduler_conf)
        return [optimizer]

    @classmethod
    def _build_frontend(cls, args: argparse.Namespace) -> Any:
        if args.feats_stats is None:
            return construct(frontend_choices, args)
        if args.frontend != "logmel":
            raise InputError(
                f"--feats_stats {args.feats_stats} is for the frontend logmel, but the frontend is {args.frontend}; "
                "leave it out (of run.sh: --feats_normalize none)"
            )
        return construct(frontend_choices, args, feats_stats=stats_path(args.feats_stats))

    @classmethod
    def build_preprocess_fn(
        cls, args: argparse.Namespace, train: bool
    ) -> Callable[[str, dict[str, Any]], dict[str, np.ndarray]]:
        """The preprocessor; prompts are drawn and speech is varied in training only."""
        paths = {name: path for path, name, _ in args.train_data_path_and_name_and_type}
        return checked("preprocessor_conf", HarmoniFusePreprocessor, args.preprocessor_conf)(
            train=train,
            tasks=build_tasks(args.tasks),
            tokenizer=language_tokenizer(args),
            ctc_tokenizer=load_tokenizer(args.ctc_tokenizer) if args.ctc_tokenizer else None,
            data_dir=Path(paths.get("speech", "")).parent,
            **args.preprocessor_conf,
        )

    @classmethod
    def build_collate_fn(
        cls, args: argparse.Namespace, train: bool
    ) -> Callable[[Collection[tuple[str, dict[str, np.ndarray]]]], tuple[list[str], dict[str, torch.Tensor]]]:
        """Padding by zeros."""
        return collate  # type: ignore[return-value]

    @classmethod
    def check_required_command_args(cls, args: argparse.Namespace) -> None:
        """Also refuse what ESPnet would pass over in silence.

        A criterion for the best model that no step reports; a cache, which keeps every utterance as it was augmented
        and asked the first time.

        Raises:
            ValueError: if there is one of them.
        """
        super().check_required_command_args(args)
        if args.max_cache_size > 0:
            raise InputError(
                f"max_cache_size is {args.max_cache_size:.0f} bytes, but must be 0: ESPnet's cache keeps what the "
                "preprocessor made, so that speeds, noise and prompts would be drawn once and never again"
            )
        names = {"loss", "acc", *(f"{kind}_{task}" for kind in ("loss", "acc", "loss_ctc") for task in args.tasks)}
        for _, name, _ in args.best_model_criterion:
            if name not in names:
                raise InputError(
                    f"best_model_criterion names '{name}', which no step reports; known are {sorted(names)}"
                )

    @classmethod
    def required_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """Names in ``--train_data_path_and_name_and_type``."""
        return ("speech", "task") if inference else ("speech", "text", "task")

    @classmethod
    def optional_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """None beyond the required ones."""
        return ()

    @classmethod
    def build_task_iter_factory(
        cls, args: argparse.Namespace, iter_options: IteratorOptions, mode: str
    ) -> AbsIterFactory:
        """Batches of one task each (or mixed); tasks take turns in training and follow each other in validation."""
        world_size = torch.distributed.get_world_size() if iter_options.distributed else 1
        paths = {name: path for path, name, _ in iter_options.data_path_and_name_and_type}
        sampler = {
            "type": iter_options.batch_type,
            "batch_size": iter_options.batch_size,
            "batch_bins": iter_options.batch_bins,
            "fold_lengths": args.fold_length,
            "sort_in_batch": args.sort_in_batch,
            "sort_batch": args.sort_batch,
            "drop_last": args.drop_last_iter,
            "min_batch_size": max(world_size, args.min_batch_size),
        }
        streams = task_batches(
            read_table(paths["task"]),
            iter_options.shape_files,
            sampler,
            args.task_batches,
            args.seed,
            tasks=build_tasks(args.tasks),
            text_file=paths["text"],
        )
        return TaskIterFactory(
            streams,
            pattern=args.task_pattern,
            order=args.task_order,
            steps=iter_options.num_iters_per_epoch,
            loader={
                "dataset": cls.build_dataset(args, iter_options),
                "seed": args.seed,
                "num_workers": args.num_workers,
                "collate_fn": iter_options.collate_fn,
                "pin_memory": args.ngpu > 0,
            },
            shuffle=iter_options.train,
            accum_grad=args.accum_grad if iter_options.train else 1,
            rank=torch.distributed.get_rank() if iter_options.distributed else 0,
            world_size=world_size,
        )


def language_tokenizer(args: argparse.Namespace) -> Tokenizer:
    """The language model's tokenizer; a config of before ``--chat_template`` has none."""
    return load_tokenizer(args.tokenizer, getattr(args, "chat_template", False))


def _tasks(path: str) -> dict[str, Any]:
    """The table of a file; argparse shows the message of an ArgumentTypeError only."""
    try:
        return load_tasks(path)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
