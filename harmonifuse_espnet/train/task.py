"""HarmoniFuse as an ESPnet task: the training options, and the hooks that ESPnet's trainer calls.

Only ``train/`` reads ``args``; the modules of the network take plain values.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import numpy as np
import torch
from espnet2.iterators.abs_iter_factory import AbsIterFactory
from espnet2.tasks.abs_task import AbsTask, IteratorOptions, optim_classes, scheduler_classes
from espnet2.torch_utils.initialize import initialize
from espnet2.train.abs_espnet_model import AbsESPnetModel
from espnet2.train.dataset import AbsDataset
from espnet2.train.distributed_utils import get_rank
from espnet2.utils.types import str2bool, str_or_none
from torch.multiprocessing.spawn import ProcessExitedException

from harmonifuse_espnet.common.command_line import DictAction
from harmonifuse_espnet.common.compatibility import FORMAT_VERSION
from harmonifuse_espnet.common.errors import InputError, report_user_errors
from harmonifuse_espnet.common.option_types import structured
from harmonifuse_espnet.common.torch_files import read_torch_file
from harmonifuse_espnet.data.batch import collate
from harmonifuse_espnet.data.datadir import read_table
from harmonifuse_espnet.data.preprocessor import HarmoniFusePreprocessor
from harmonifuse_espnet.data.schedule import ORDERS
from harmonifuse_espnet.data.speech_table import SpeechTable
from harmonifuse_espnet.data.tasks import build_tasks
from harmonifuse_espnet.train.build import (
    build_ctc_tokenizer,
    build_network,
    build_task_iter_factory,
    build_tokenizer,
)
from harmonifuse_espnet.train.checkpoints import writing_checkpoints
from harmonifuse_espnet.train.identity import experiment_folder
from harmonifuse_espnet.train.inputs import REQUIRED, check_inputs
from harmonifuse_espnet.train.options import adapt, table_of_tasks
from harmonifuse_espnet.train.parameters import (
    check_scheduler,
    count_parameters,
    format_counts,
    freeze,
    set_parameter_groups,
)
from harmonifuse_espnet.train.registry import CLASS_CHOICES, check_arguments, check_conf
from harmonifuse_espnet.train.trainer import HarmoniFuseTrainer
from harmonifuse_espnet.train.worker_errors import report_killed_workers


class HarmoniFuseTask(AbsTask):
    """ESPnet's trainer for :class:`harmonifuse_espnet.model.harmonifuse.HarmoniFuseModel`."""

    num_optimizers = 1
    trainer = HarmoniFuseTrainer
    class_choices_list = CLASS_CHOICES

    @classmethod
    def espnet_parser(cls) -> argparse.ArgumentParser:
        """Return ESPnet's parser with the options of this task."""
        return super().get_parser()

    @classmethod
    def get_parser(cls) -> argparse.ArgumentParser:
        """Return the parser of training, with the types of values and one-line errors of this package."""
        parser = cls.espnet_parser()
        adapt(parser)
        return parser

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the options beyond ESPnet's own."""
        group = parser.add_argument_group(description="HarmoniFuse")
        add = group.add_argument
        add("--tasks", type=table_of_tasks, help="table of tasks, a YAML file (conf/tasks.yaml)")
        add("--tokenizer", type=str, help="sentencepiece model, or a Hugging Face tokenizer's folder or name")
        add("--chat_template", type=str2bool, default=False, help="wrap prompts in the tokenizer's chat template")
        add("--ctc_tokenizer", type=str_or_none, help="tokenizer of the CTC head (default: that of --tokenizer)")
        add("--ctc", type=str2bool, default=True, help="use a CTC head, if the table of tasks has a text task")
        add("--ctc_conf", action=DictAction, default={}, help="arguments of CTCHead")
        add("--feats_stats", type=str_or_none, help="feats_stats.npz for the normalisation of log-mel features")
        add("--gate_size", type=int, default=256, help="width of the component gate's output")
        add("--model_conf", action=DictAction, default={}, help="arguments of HarmoniFuseModel")
        add("--preprocessor_conf", action=DictAction, default={}, help="arguments of HarmoniFusePreprocessor")
        add("--init", type=str_or_none, default=None, help="initialisation, one of ESPnet's (default: that of PyTorch)")
        help = "sampling weights of the tasks: round_robin, proportional, or {asr: 2, ser: 1}"
        add("--task_pattern", type=structured, default="round_robin", help=help)
        add("--task_order", choices=tuple(ORDERS), default="interleaved", help="order of the tasks' batches")
        help = (
            "batching of each task: {asr: {type: folded, shuffle_window: 0.1}, ser: {type: unsorted, balanced: true}}"
        )
        add("--task_batches", action=DictAction, default={}, help=help)
        help = "optimizer parameter groups: '[{match: lora_, lr: 1.0e-4}, {match: ^gate, weight_decay: 0.0}]'"
        add("--optim_groups", type=structured, default=[], help=help)
        help = "true: remove an earlier training in --output_dir first"
        add("--fresh", type=str2bool, default=False, help=help)
        add("--format_version", type=int, default=FORMAT_VERSION, help=argparse.SUPPRESS)  # goes into config.yaml
        for choices in cls.class_choices_list:
            choices.add_arguments(group)
        parser.set_defaults(iterator_type="task", unused_parameters=True, num_att_plot=0, required=list(REQUIRED))

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
            InputError: if an argument of the optimizer or scheduler is unknown, missing or no number, if a group
                matches no trained parameter, or if the scheduler would override its learning rate.
        """
        check_conf("optim_conf", optim_classes[args.optim], args.optim_conf)
        if args.scheduler is not None:
            check_conf("scheduler_conf", scheduler_classes[args.scheduler], args.scheduler_conf)
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
        """Check options that ESPnet accepts but that would not do what they say, and the files that they name.

        Raises:
            MissingFileError: if a file does not exist.
            InputError: if an option is missing, a checkpoint is damaged, ``best_model_criterion`` names a statistic
                that no step reports, or a cache is used, which would repeat the first augmentation and prompt of each
                utterance in every epoch.
        """
        check_inputs(args, needs_gpu=False)
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
            InputError: if one process has several GPUs, for which ESPnet would use ``DataParallel``, or a process that
                loads data was killed.
            AccessError: if a checkpoint could not be written.
        """
        if args.ngpu > 1:
            raise InputError(
                f"--ngpu {args.ngpu} in one process is not supported; add --multiprocessing_distributed true, as "
                "run.sh does"
            )
        is_child = args.multiprocessing_distributed and parent_process() is not None  # its parent sees the exit status
        one_line = report_user_errors() if is_child else nullcontext()
        with one_line, report_killed_workers(), writing_checkpoints(Path(args.output_dir)):
            super().main_worker(args)

    @classmethod
    def main(cls, args: argparse.Namespace | None = None, cmd: Sequence[str] | None = None) -> None:
        """Train, with a process for each GPU if ``multiprocessing_distributed`` is true; a complete training is kept.

        Raises:
            InputError: if the folder has a training with other options or data, a file of ``--init_param`` would run
                code, or one of these processes failed, after its own error message.
            AccessError: if another process trains in the folder.
        """
        args = cls.get_parser().parse_args(cmd) if args is None else args
        if args.print_config or args.dry_run or args.collect_stats:
            super().main(args)
            return
        cls.check_required_command_args(args)
        for entry in args.init_param:
            read_torch_file(Path(entry.split(":")[0]))  # refuses a file with code, which ESPnet would run
        try:
            with experiment_folder(args, rank=get_rank(args.dist_rank, args.dist_launcher) or 0) as is_unfinished:
                if is_unfinished:
                    super().main(args)
        except ProcessExitedException as error:
            raise InputError(f"a training process failed ({error}); its error is reported above") from error

    @classmethod
    def build_dataset(
        cls, args: argparse.Namespace, iter_options: IteratorOptions, keys_to_load: set[int | str] | None = None
    ) -> AbsDataset:
        """Build ESPnet's dataset, but read tables, audio and features as in all other commands.

        Raises:
            InputError: if a table is invalid; when an utterance is read, if its audio or features cannot be used.
        """
        readers = {
            name: SpeechTable(path, kind) if name == "speech" else read_table(path)
            for path, name, kind in iter_options.data_path_and_name_and_type
        }
        dataset = super().build_dataset(args, iter_options, keys_to_load)
        dataset.loader_dict.update(readers)
        return dataset

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
