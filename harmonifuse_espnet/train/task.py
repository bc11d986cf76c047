"""HarmoniFuse as an ESPnet task: the training options, and the hooks that ESPnet's trainer calls.

Only ``train/`` reads ``args``; the modules of the network take plain values.
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
from espnet2.utils.nested_dict_action import NestedDictAction
from espnet2.utils.types import str2bool, str_or_none

from harmonifuse_espnet.common.compatibility import FORMAT_VERSION
from harmonifuse_espnet.common.errors import InputError
from harmonifuse_espnet.data.batch import collate
from harmonifuse_espnet.data.preprocessor import HarmoniFusePreprocessor
from harmonifuse_espnet.data.schedule import ORDERS
from harmonifuse_espnet.data.tasks import build_tasks, load_tasks
from harmonifuse_espnet.train.build import (
    build_ctc_tokenizer,
    build_network,
    build_task_iter_factory,
    build_tokenizer,
)
from harmonifuse_espnet.train.parameters import (
    check_scheduler,
    count_parameters,
    format_counts,
    freeze,
    set_parameter_groups,
)
from harmonifuse_espnet.train.registry import CLASS_CHOICES, check_arguments
from harmonifuse_espnet.train.trainer import HarmoniFuseTrainer


class HarmoniFuseTask(AbsTask):
    """ESPnet's trainer for :class:`harmonifuse_espnet.model.harmonifuse.HarmoniFuseModel`."""

    num_optimizers = 1
    trainer = HarmoniFuseTrainer
    class_choices_list = CLASS_CHOICES

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the options beyond ESPnet's own."""
        group = parser.add_argument_group(description="HarmoniFuse")
        add = group.add_argument
        add("--tasks", type=_tasks_argument, help="table of tasks, a YAML file (conf/tasks.yaml)")
        add("--tokenizer", type=str, help="sentencepiece model, or a Hugging Face tokenizer's folder or name")
        add("--chat_template", type=str2bool, default=False, help="wrap prompts in the tokenizer's chat template")
        add("--ctc_tokenizer", type=str_or_none, help="tokenizer of the CTC head (default: that of --tokenizer)")
        add("--ctc", type=str2bool, default=True, help="use a CTC head, if the table of tasks has a text task")
        add("--ctc_conf", action=NestedDictAction, default={}, help="arguments of CTCHead")
        add("--feats_stats", type=str_or_none, help="feats_stats.npz for the normalisation of log-mel features")
        add("--gate_size", type=int, default=256, help="width of the component gate's output")
        add("--model_conf", action=NestedDictAction, default={}, help="arguments of HarmoniFuseModel")
        add("--preprocessor_conf", action=NestedDictAction, default={}, help="arguments of HarmoniFusePreprocessor")
        add("--init", type=str_or_none, default=None, help="initialisation, one of ESPnet's (default: that of PyTorch)")
        help = "sampling weights of the tasks: round_robin, proportional, or {asr: 2, ser: 1}"
        add("--task_pattern", type=yaml.safe_load, default="round_robin", help=help)
        add("--task_order", choices=tuple(ORDERS), default="interleaved", help="order of the tasks' batches")
        help = (
            "batching of each task: {asr: {type: folded, shuffle_window: 0.1}, ser: {type: unsorted, balanced: true}}"
        )
        add("--task_batches", action=NestedDictAction, default={}, help=help)
        help = "optimizer parameter groups: '[{match: lora_, lr: 1.0e-4}, {match: ^gate, weight_decay: 0.0}]'"
        add("--optim_groups", type=yaml.safe_load, default=[], help=help)
        add("--format_version", type=int, default=FORMAT_VERSION, help=argparse.SUPPRESS)  # goes into config.yaml
        for choices in cls.class_choices_list:
            choices.add_arguments(group)
        parser.set_defaults(
            iterator_type="task", unused_parameters=True, num_att_plot=0, required=["output_dir", "tasks", "tokenizer"]
        )

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> AbsESPnetModel:
        """Build and initialise the network, and freeze the parameters of ``--freeze_param``.

        Raises:
            InputError: if options contradict each other; the message names them.
        """
        model = build_network(args)
        if args.init is not None:
            initialize(model, args.init)
        freeze(model, args.freeze_param)
        return model

    @classmethod
    def build_optimizers(cls, args: argparse.Namespace, model: torch.nn.Module) -> list[torch.optim.Optimizer]:
        """Build ESPnet's optimizer with the parameter groups of ``--optim_groups``; log the parameter counts.

        Raises:
            InputError: if a group matches no trained parameter, or the scheduler would override its learning rate.
        """
        logging.info(f"Parameters:\n{format_counts(count_parameters(model))}")
        (optimizer,) = super().build_optimizers(args, model)
        set_parameter_groups(optimizer, dict(model.named_parameters()), args.optim_groups)
        check_scheduler(optimizer, args.scheduler_conf)
        return [optimizer]

    @classmethod
    def build_preprocess_fn(
        cls, args: argparse.Namespace, train: bool
    ) -> Callable[[str, dict[str, Any]], dict[str, np.ndarray]]:
        """Build the preprocessor; if ``train``, it draws prompts at random and augments the speech."""
        paths = {name: path for path, name, _ in args.train_data_path_and_name_and_type}
        check_arguments("preprocessor_conf", HarmoniFusePreprocessor, args.preprocessor_conf)
        return HarmoniFusePreprocessor(
            train=train,
            tasks=build_tasks(args.tasks),
            tokenizer=build_tokenizer(args),
            ctc_tokenizer=build_ctc_tokenizer(args),
            data_dir=Path(paths.get("speech", "")).parent,
            **args.preprocessor_conf,
        )

    @classmethod
    def build_collate_fn(
        cls, args: argparse.Namespace, train: bool
    ) -> Callable[[Collection[tuple[str, dict[str, np.ndarray]]]], tuple[list[str], dict[str, torch.Tensor]]]:
        """Return the function that collates utterances to a :class:`harmonifuse_espnet.data.batch.SpeechBatch`."""
        return collate  # type: ignore[return-value]

    @classmethod
    def check_required_command_args(cls, args: argparse.Namespace) -> None:
        """Check options that ESPnet accepts but that would not do what they say.

        Raises:
            InputError: if ``best_model_criterion`` names a statistic that no step reports, or if a cache is used, which
                would repeat the first augmentation and prompt of each utterance in every epoch.
        """
        super().check_required_command_args(args)
        if args.max_cache_size > 0:
            raise InputError(
                f"max_cache_size is {args.max_cache_size:.0f} bytes, but must be 0: ESPnet's cache keeps preprocessed "
                "utterances, so augmentation and prompts would be drawn only once"
            )
        names = {"loss", "acc", *(f"{kind}_{task}" for kind in ("loss", "acc", "loss_ctc") for task in args.tasks)}
        for _, name, _ in args.best_model_criterion:
            if name not in names:
                raise InputError(
                    f"best_model_criterion names '{name}', which no step reports; known are {sorted(names)}"
                )

    @classmethod
    def main_worker(cls, args: argparse.Namespace) -> None:
        """Train in this process.

        Raises:
            InputError: if one process has several GPUs, for which ESPnet would use ``DataParallel``.
        """
        if args.ngpu > 1:
            raise InputError(
                f"--ngpu {args.ngpu} in one process is not supported; add --multiprocessing_distributed true, as "
                "run.sh does"
            )
        super().main_worker(args)

    @classmethod
    def required_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """Return the data names that ``--train_data_path_and_name_and_type`` must have."""
        return ("speech", "task") if inference else ("speech", "text", "task")

    @classmethod
    def optional_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        return ()

    @classmethod
    def build_task_iter_factory(
        cls, args: argparse.Namespace, iter_options: IteratorOptions, mode: str
    ) -> AbsIterFactory:
        """Build the iterator over the task schedule, ESPnet's ``iterator_type: task``."""
        return build_task_iter_factory(args, iter_options, cls.build_dataset(args, iter_options))


def _tasks_argument(path: str) -> dict[str, Any]:
    """Read a table of tasks as an argparse type: argparse shows only the message of an ArgumentTypeError."""
    try:
        return load_tasks(path)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
