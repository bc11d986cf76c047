"""Tiny models, tokenizers, pre-trained folders and dump folders for the tests; everything random is seeded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import yaml
from stand_ins import models
from torch import Tensor, nn

from harmonifuse_espnet.data.datadir import Utterance, write_datadir
from harmonifuse_espnet.data.tasks import build_tasks
from harmonifuse_espnet.data.tokenizer_training import train_sentencepiece
from harmonifuse_espnet.model.connector import StackingConnector
from harmonifuse_espnet.model.ctc import CTCHead
from harmonifuse_espnet.model.encoders.conformer import ConformerEncoder
from harmonifuse_espnet.model.fusion import LayerFusion
from harmonifuse_espnet.model.gate import PromptGate
from harmonifuse_espnet.model.harmonifuse import EncoderOutput, HarmoniFuseModel
from harmonifuse_espnet.model.language_model import LanguageModel
from harmonifuse_espnet.model.layer_weights import PerTaskWeights, PromptWeights
from harmonifuse_espnet.model.outputs import LabelOutput, TextOutput

TABLE: dict[str, dict[str, Any]] = {
    "asr": {"answer": "text", "prompts": ["TRANSCRIBE", "WRITE IT DOWN"]},
    "ser": {
        "answer": "label",
        "labels": {"ang": "ANGRY", "neu": "NEUTRAL", "sad": "SAD"},
        "prompts": ["EMOTION", "HOW DOES IT SOUND"],
    },
}
GENDER = {"answer": "label", "labels": {"f": "WOMAN", "m": "MAN"}, "prompts": ["WHO SPEAKS"]}
VOCAB = 20  # of models that need no tokenizer
EOS = 2
QWEN2: dict[str, Any] = {
    "model_type": "qwen2",
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
}
LLAMA = {**QWEN2, "model_type": "llama"}
CHAT = (  # in the manner of ChatML and Llama 3: a default system message, today's date, trimmed messages
    "{{ '<|turn|>system\nBE BRIEF ' + strftime_now('%Y') + '<|end|>' }}"
    "{% for m in messages %}{{ '<|turn|>' + m['role'] + '\n' + m['content'] | trim + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|turn|>assistant\n' }}{% endif %}"
)
LORA = {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"]}
LOGMEL: dict[str, Any] = {"n_mels": 12, "hidden_size": 16, "num_layers": 2, "num_heads": 2, "kernel_size": 5}
ENCODER: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": [8, 8, 8],
    "conv_stride": [5, 8, 8],
    "conv_kernel": [10, 8, 8],
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "conv_bias": True,
    "initializer_range": 0.3,
}


def encoder_config(model_type: str = "wavlm") -> dict[str, Any]:
    """Fields of a tiny self-supervised encoder in the style of the large models: layer norm, 320 samples a frame."""
    return {"model_type": model_type, **ENCODER}


def save_encoder(folder: Path, model_type: str = "wavlm") -> str:
    """Write a random encoder as ``save_pretrained`` does, and return its folder."""
    return models.save_encoder(folder, encoder_config(model_type))


def save_llm(
    folder: Path, config: Mapping[str, Any] = QWEN2, vocab_size: int = 300, chat_template: str | None = None
) -> str:
    """Write a random language model with a tokenizer of single bytes, and return its folder.

    Ids: 0 <eos>, 1 to 256 the bytes; with a chat template 257 <|turn|> and 258 <|end|>.
    """
    others = ("<|turn|>", "<|end|>") if chat_template is not None else ()
    return models.save_llm(folder, {**config, "vocab_size": vocab_size}, "<eos>", others, chat_template)


def build_model(
    seed: int = 0,
    frontend: nn.Module | None = None,
    decoder: Mapping[str, Any] | None = None,
    last_bias: float = 1.0,
    ctc: bool = True,
    output: type[LabelOutput] = TextOutput,
    **options: Any,
) -> HarmoniFuseModel:
    """A random model for ``TABLE``, in eval mode; ``options`` are the model's own."""
    torch.manual_seed(seed)
    frontend = frontend or ConformerEncoder(**LOGMEL)
    llm = LanguageModel(**(decoder or {"vocab_size": VOCAB, "config": QWEN2}))
    width = llm.hidden_size
    layer_weights = PerTaskWeights(frontend.num_layers, len(TABLE), width)
    fusion = LayerFusion(PromptWeights(llm.num_layers, len(TABLE), width, last_bias), llm.final_norm)
    model = HarmoniFuseModel(
        tasks=list(build_tasks(TABLE).values()),
        frontend=frontend,
        layer_weights=layer_weights,
        gate=PromptGate(frontend.hidden_size, 24, width, len(TABLE)),
        connector=StackingConnector(24, width, stack=2),
        ctc=CTCHead(width, VOCAB) if ctc else None,
        decoder=llm,
        fusion=fusion,
        label_output=output([0, len(TABLE["ser"]["labels"])], width),
        **{"opening_ids": [1], **options},
    )
    if last_bias < 10.0:  # far from the start, where prompts differ and the head is sharp
        with torch.no_grad():
            fusion.weights.mlp[-1].weight.normal_(std=0.3)
            layer_weights.weight.normal_()
            llm.llm.get_output_embeddings().weight.normal_()
    return model.eval()


def noise(samples: int, seed: int = 0) -> np.ndarray:
    """Samples (N,) that no two seeds share."""
    random = np.random.default_rng(seed)
    tone = np.sin(2 * np.pi * (150 + 50 * seed) * np.arange(samples) / 16000)
    return (0.2 * tone + 0.1 * random.standard_normal(samples)).clip(-1, 1).astype(np.float32)


def pad(rows: Sequence[Any], name: str) -> dict[str, Tensor]:
    """Rows of different length -> ``name`` and ``name_lengths``."""
    tensors = [torch.as_tensor(row) for row in rows]
    padded = nn.utils.rnn.pad_sequence(tensors, batch_first=True)
    return {name: padded, f"{name}_lengths": torch.tensor([len(row) for row in rows])}


def batch(tasks: Sequence[int] = (0, 0, 1), seconds: Sequence[float] = (0.5, 0.8, 0.61)) -> dict[str, Tensor]:
    """A batch for :func:`build_model`: each utterance its own length, prompt and answer; task 1 answers by label."""
    prompts = [[5, 6, 7], [8, 9], [10, 11, 12, 13]]
    answers = [[4, 5, 6, 7, EOS], [8, 5, EOS], [9, EOS]]
    rows = [number % 3 for number in range(len(tasks))]
    made = pad([noise(round(16000 * length), seed) for seed, length in enumerate(seconds)], "speech")
    made |= pad([prompts[row] for row in rows], "prompt")
    made |= pad([answers[row] for row in rows], "text")
    made |= pad([answers[row][:-1] if task == 0 else [] for row, task in zip(rows, tasks, strict=True)], "ctc_text")
    made["ctc_text"] = made["ctc_text"].long()
    labels = [row if task == 1 else -1 for row, task in zip(rows, tasks, strict=True)]
    return made | pad([[task] for task in tasks], "task") | pad([[label] for label in labels], "label")


def row_of(whole: Mapping[str, Tensor], row: int) -> dict[str, Tensor]:
    """One utterance of a batch, without padding."""
    names = [name for name in whole if not name.endswith("_lengths")]
    lengths = {name: int(whole[f"{name}_lengths"][row]) for name in names}
    one = {name: whole[name][row : row + 1, : lengths[name]] for name in names}
    return {**one, **{f"{name}_lengths": torch.tensor([length]) for name, length in lengths.items()}}


def encode(model: HarmoniFuseModel, data: Mapping[str, Tensor]) -> EncoderOutput:
    """What the model is about to read for a batch."""
    names = ("speech", "speech_lengths", "prompt", "prompt_lengths")
    with torch.no_grad():
        return model.encode(*[data[name] for name in names], data["task"].view(-1))


def write_tokenizer(folder: Path, table: Mapping[str, Any]) -> str:
    """Train a tokenizer of characters whose labels are one token each, and return its folder."""
    tasks = build_tasks(table)
    labels = [words for task in tasks.values() for words in task.labels.values()]
    prompts = [prompt for task in tasks.values() for prompt in task.prompts]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bpe.model").write_bytes(train_sentencepiece(["ONE TWO THREE FOUR", *prompts], labels, 100, "char"))
    return str(folder)


def write_dump(folder: Path, answers: Mapping[str, tuple[str, str]], start: int = 0) -> Path:
    """Write a dump folder of stage 2: utterance -> (task, answer), each a different sound of about half a second."""
    folder.mkdir(parents=True, exist_ok=True)
    lengths = {}
    for seed, key in enumerate(answers, start=start):
        samples = noise(6000 + 400 * (seed % 7), seed)
        soundfile.write(folder / f"{key}.flac", samples, 16000)
        lengths[key] = len(samples)
    rows = [Utterance(key, str(folder / f"{key}.flac"), text, "spk", task) for key, (task, text) in answers.items()]
    write_datadir(folder, rows)
    (folder / "utt2num_samples").write_text("".join(f"{key} {lengths[key]}\n" for key in sorted(lengths)))
    return folder


def write_events(folder: Path, values: Mapping[str, Sequence[tuple[int, float]]]) -> None:
    """A TensorBoard folder: tag -> (step, value) in the order in which they were written."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(folder))
    for tag, curve in values.items():
        for step, value in curve:
            summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
            writer.add_event(Event(wall_time=0.0, step=step, summary=summary))
    writer.close()


def answers_for(table: Mapping[str, Any], count: int, prefix: str) -> dict[str, tuple[str, str]]:
    """``count`` utterances of each task of a table, with answers that it knows."""
    words = ["ONE", "TWO", "THREE FOUR", "ONE TWO"]
    answers = {}
    for name, task in table.items():
        choices = list(task["labels"]) if task["answer"] == "label" else words
        answers |= {f"{prefix}_{name}_{turn}": (name, choices[turn % len(choices)]) for turn in range(count)}
    return answers


def dump_layers(data_dir: Path, out_dir: Path, encoder: str) -> None:
    """Run stage 3 in this process: every layer of an encoder."""
    from harmonifuse_espnet.bin.extract_features import main

    config = data_dir / "feats.yaml"
    config.write_text(yaml.safe_dump({"frontend_conf": {"model": encoder}}))
    main(["--feats_type", "ssl", "--data_dir", str(data_dir), "--out_dir", str(out_dir), "--config", str(config)])


class Recipe:
    """A folder with a table of tasks, a tokenizer, dumps and statistics, ready for stage 6.

    Args:
        folder: Where everything goes.
        table: Of tasks.
        tokenizer: A tokenizer's folder; a new one of characters if None.
        encoder: A self-supervised encoder's folder, whose layers stage 3 dumps to ``ssl/``; the waveform if None.
    """

    def __init__(
        self,
        folder: Path,
        table: Mapping[str, Any] = TABLE,
        tokenizer: str | None = None,
        encoder: str | None = None,
    ) -> None:
        from harmonifuse_espnet.bin.collect_stats import main

        self.folder, self.table = folder, table
        self.data = folder / "ssl" if encoder else folder
        self.tasks = folder / "tasks.yaml"
        self.tasks.write_text(yaml.safe_dump(dict(table), sort_keys=False))
        self.tokenizer = tokenizer or write_tokenizer(folder / "tokens", table)
        for name, count, start in (("train", 6, 0), ("valid", 2, 40), ("test", 3, 60)):
            write_dump(folder / name, answers_for(table, count, name), start)
            if encoder:
                dump_layers(folder / name, self.data / name, encoder)
            options = ["--data_dir", str(self.data / name), "--out_dir", str(folder / "stats" / name)]
            options += ["--feats_type", "ssl" if encoder else "raw"]
            main([*options, "--tokenizer", self.tokenizer, "--tasks", str(self.tasks)])

    def train_command(self, experiment: str, config: Mapping[str, Any] | None = None, **options: Any) -> list[str]:
        """Arguments of stage 6; ``config`` replaces entries of a tiny configuration, ``options`` are added."""
        defaults: dict[str, Any] = {
            "frontend_conf": LOGMEL,
            "decoder_conf": {"config": QWEN2},
            "gate_size": 24,
            "batch_type": "unsorted",
            "batch_size": 3,
            "optim": "adamw",
            "optim_conf": {"lr": 1.0e-3},
            "scheduler": "warmuplr",
            "scheduler_conf": {"warmup_steps": 5},
            "max_epoch": 1,
            "keep_nbest_models": 1,
            "best_model_criterion": [["valid", "loss", "min"]],
            "use_tensorboard": False,
            "use_matplotlib": False,
            "num_workers": 0,
        }
        path = self.folder / f"{experiment}.yaml"
        path.write_text(yaml.safe_dump({**defaults, **(config or {})}))
        command = ["--config", str(path), "--tasks", str(self.tasks), "--tokenizer", self.tokenizer, "--ngpu", "0"]
        command += ["--output_dir", str(self.folder / experiment)]
        for kind in ("train", "valid"):
            data, shapes = self.data / kind, self.folder / "stats" / kind
            speech = "wav.scp,speech,sound" if self.data == self.folder else "feats.scp,speech,kaldi_ark"
            for entry in (speech, "text,text,text", "utt2task,task,text"):
                command += [f"--{kind}_data_path_and_name_and_type", f"{data}/{entry}"]
            for shape in ("speech_shape", "text_shape"):
                command += [f"--{kind}_shape_file", str(shapes / shape)]
        return command + [word for name, value in options.items() for word in (f"--{name}", str(value))]

    def train(self, experiment: str, config: Mapping[str, Any] | None = None, **options: Any) -> Path:
        """Run stage 6 in this process and return the experiment's folder."""
        from harmonifuse_espnet.bin.train import main

        main(self.train_command(experiment, config, **options))
        return self.folder / experiment

    def decode(self, experiment: Path, out_dir: Path, *options: str) -> Path:
        """Run stage 7 on the test set in this process and return ``out_dir``."""
        from harmonifuse_espnet.bin.decode import main

        command = ["--train_config", str(experiment / "config.yaml"), "--data_dir", str(self.folder / "test")]
        command += ["--model_file", str(experiment / "valid.loss.ave.pth"), "--out_dir", str(out_dir)]
        main([*command, *options])
        return out_dir
