"""Tiny models, tokenizers, pre-trained folders and dump folders for the tests; everything random is seeded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import yaml
from synthetic import models
from torch import nn

from harmonifuse_espnet.data.batch import SpeechBatch, Targets, collate
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
CHAT = (  # as ChatML and Llama 3: a default system message, the current date, messages without outer spaces
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
    """Return the config of a tiny self-supervised encoder like the large models: layer norm, 320 samples a frame."""
    return {"model_type": model_type, **ENCODER}


def save_encoder(folder: Path, model_type: str = "wavlm") -> str:
    """Write a random encoder as ``save_pretrained`` does, and return its folder."""
    return models.save_encoder(folder, encoder_config(model_type))


def save_llm(
    folder: Path, config: Mapping[str, Any] = QWEN2, vocab_size: int = 300, chat_template: str | None = None
) -> str:
    """Write a random language model with a tokenizer of bytes, and return its folder.

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
    """Build a random model for ``TABLE``, in eval mode; ``options`` are arguments of ``HarmoniFuseModel``."""
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
    if last_bias < 10.0:  # far from the initialisation: weights differ between prompts, token probabilities are sharp
        with torch.no_grad():
            fusion.weights.mlp[-1].weight.normal_(std=0.3)
            layer_weights.weight.normal_()
            llm.llm.get_output_embeddings().weight.normal_()
    return model.eval()


def noise(samples: int, seed: int = 0) -> np.ndarray:
    """Return N samples of a tone with noise, different for each seed."""
    random = np.random.default_rng(seed)
    tone = np.sin(2 * np.pi * (150 + 50 * seed) * np.arange(samples) / 16000)
    return (0.2 * tone + 0.1 * random.standard_normal(samples)).clip(-1, 1).astype(np.float32)


def arrays(tasks: Sequence[int] = (0, 0, 1), seconds: Sequence[float] = (0.5, 0.8, 0.61)) -> list[dict[str, Any]]:
    """Make preprocessed utterances for :func:`build_model`, with different prompts and targets; task 1 has labels."""
    prompts = [[5, 6, 7], [8, 9], [10, 11, 12, 13]]
    targets = [[4, 5, 6, 7, EOS], [8, 5, EOS], [9, EOS]]
    examples = []
    for number, (task, length) in enumerate(zip(tasks, seconds, strict=False)):
        row = number % 3
        examples.append(
            {
                "speech": noise(round(16000 * length), number),
                "prompt": np.array(prompts[row]),
                "text": np.array(targets[row]),
                "ctc_text": np.array(targets[row][:-1] if task == 0 else [], dtype=np.int64),
                "task": np.array([task]),
                "label": np.array([row if task == 1 else -1]),
            }
        )
    return examples


def collated(examples: Sequence[Mapping[str, Any]]) -> SpeechBatch:
    """Make a batch of preprocessed utterances."""
    return collate([(str(row), example) for row, example in enumerate(examples)])[1]["batch"]


def batch(tasks: Sequence[int] = (0, 0, 1), seconds: Sequence[float] = (0.5, 0.8, 0.61)) -> SpeechBatch:
    """Make a batch for :func:`build_model`, of :func:`arrays`."""
    return collated(arrays(tasks, seconds))


def rows_of(task: Sequence[int]) -> dict[int, torch.Tensor]:
    """Return the rows of each task in a batch whose utterances have these tasks."""
    return {
        index: torch.tensor([row for row, other in enumerate(task) if other == index]) for index in sorted(set(task))
    }


def targets_of(data: SpeechBatch) -> Targets:
    """Return the targets of a batch, which must have them."""
    assert data.targets is not None
    return data.targets


def row_of(whole: SpeechBatch, row: int) -> SpeechBatch:
    """Return one utterance of a batch as a batch without padding."""
    one = whole.select([row])
    trimmed: dict[str, Any] = {
        "speech": one.speech[:, : int(one.speech_lengths)],
        "prompt": one.prompt[:, : int(one.prompt_lengths)],
    }
    if one.targets is not None:
        tokens = one.targets.tokens[:, : int(one.targets.lengths)]
        ctc_tokens = one.targets.ctc_tokens[:, : int(one.targets.ctc_lengths)]
        trimmed["targets"] = one.targets._replace(tokens=tokens, ctc_tokens=ctc_tokens)
    return one._replace(**trimmed)


def encode(model: HarmoniFuseModel, data: SpeechBatch) -> EncoderOutput:
    """Encode a batch without gradients."""
    with torch.no_grad():
        return model.encode(data)


def write_tokenizer(folder: Path, table: Mapping[str, Any]) -> str:
    """Train a character tokenizer in which each label is one token, and return its folder."""
    tasks = build_tasks(table)
    labels = [words for task in tasks.values() for words in task.labels.values()]
    prompts = [prompt for task in tasks.values() for prompt in task.prompts]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bpe.model").write_bytes(train_sentencepiece(["ONE TWO THREE FOUR", *prompts], labels, 100, "char"))
    return str(folder)


def write_dump(folder: Path, texts: Mapping[str, tuple[str, str]], start: int = 0) -> Path:
    """Write a dump folder of stage 2 for utterance -> (task, text), with half a second of different audio each."""
    folder.mkdir(parents=True, exist_ok=True)
    lengths = {}
    for seed, key in enumerate(texts, start=start):
        samples = noise(6000 + 400 * (seed % 7), seed)
        soundfile.write(folder / f"{key}.flac", samples, 16000)
        lengths[key] = len(samples)
    rows = [Utterance(key, str(folder / f"{key}.flac"), text, "spk", task) for key, (task, text) in texts.items()]
    write_datadir(folder, rows)
    (folder / "utt2num_samples").write_text("".join(f"{key} {lengths[key]}\n" for key in sorted(lengths)))
    return folder


def write_events(folder: Path, values: Mapping[str, Sequence[tuple[int, float]]]) -> None:
    """Write a TensorBoard folder: tag -> (step, value), in this order."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(folder))
    for tag, curve in values.items():
        for step, value in curve:
            summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
            writer.add_event(Event(wall_time=0.0, step=step, summary=summary))
    writer.close()


def make_texts(table: Mapping[str, Any], count: int, prefix: str) -> dict[str, tuple[str, str]]:
    """Return utterance -> (task, text) for ``count`` utterances of each task of a table."""
    words = ["ONE", "TWO", "THREE FOUR", "ONE TWO"]
    texts = {}
    for name, task in table.items():
        choices = list(task["labels"]) if task["answer"] == "label" else words
        texts |= {f"{prefix}_{name}_{number}": (name, choices[number % len(choices)]) for number in range(count)}
    return texts


def dump_layers(data_dir: Path, out_dir: Path, encoder: str) -> None:
    """Run stage 3 in this process: dump every layer of an encoder."""
    from harmonifuse_espnet.bin.extract_features import main

    config = data_dir / "feats.yaml"
    config.write_text(yaml.safe_dump({"frontend_conf": {"model": encoder}}))
    main(["--feats_type", "ssl", "--data_dir", str(data_dir), "--out_dir", str(out_dir), "--config", str(config)])


class Recipe:
    """A folder with a table of tasks, a tokenizer, dumps and statistics, ready for stage 6.

    Args:
        folder: Folder to write to.
        table: Table of tasks.
        tokenizer: Folder of a tokenizer; None to train one of characters.
        encoder: Folder of a self-supervised encoder whose layers stage 3 dumps to ``ssl/``; None to train on audio.
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
            write_dump(folder / name, make_texts(table, count, name), start)
            if encoder:
                dump_layers(folder / name, self.data / name, encoder)
            options = ["--data_dir", str(self.data / name), "--out_dir", str(folder / "stats" / name)]
            options += ["--feats_type", "ssl" if encoder else "raw"]
            main([*options, "--tokenizer", self.tokenizer, "--tasks", str(self.tasks)])

    def train_command(self, experiment: str, config: Mapping[str, Any] | None = None, **options: Any) -> list[str]:
        """Return arguments of stage 6; ``config`` replaces entries of a tiny configuration, ``options`` are added."""
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
