"""Memory estimates, compared with the tensors that autograd keeps and with known sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tiny import ENCODER, LOGMEL, LORA, QWEN2, VOCAB, build_model, collated, noise
from torch import nn

from harmonifuse_espnet.data.batch import SpeechBatch
from harmonifuse_espnet.model.activations import BatchShape, Precision
from harmonifuse_espnet.model.encoders.conformer import ConformerEncoder
from harmonifuse_espnet.model.encoders.hugging_face import HuggingFaceEncoder
from harmonifuse_espnet.model.encoders.precomputed import PrecomputedEncoder
from harmonifuse_espnet.model.encoders.self_supervised import SelfSupervisedEncoder
from harmonifuse_espnet.model.encoders.whisper import WhisperEncoder
from harmonifuse_espnet.model.language_model import LanguageModel
from harmonifuse_espnet.model.outputs import BothOutput, TextOutput
from harmonifuse_espnet.train.memory_plan import (
    CUDA_CONTEXT,
    estimate_activations,
    estimate_memory,
    optimizer_state_bytes,
)

LLM = {**QWEN2, "hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 8, "intermediate_size": 512}
CPU, GPU = Precision(gpu=False, amp=False), Precision(gpu=True, amp=False)
SHAPE = BatchShape(utterances=2, length=64000, tokens=12, prompt=6)
SSL: dict[str, Any] = {
    **{**ENCODER, "hidden_size": 128, "num_hidden_layers": 4, "intermediate_size": 512, "conv_dim": [128] * 7},
    **{"conv_stride": [5, 2, 2, 2, 2, 2, 2], "conv_kernel": [10, 3, 3, 3, 3, 2, 2]},
}
WHISPER: dict[str, Any] = {
    **{"model_type": "whisper", "d_model": 128, "encoder_layers": 4, "encoder_attention_heads": 2},
    **{"encoder_ffn_dim": 512, "decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 16},
    **{"vocab_size": 20, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0, "decoder_start_token_id": 0},
}
EVERYWHERE = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def kept_bytes(module: nn.Module, forward: Callable[[], Any]) -> int:
    """Return the bytes of the storages that autograd keeps for the backward pass, without parameters."""
    known = {weight.untyped_storage().data_ptr() for weight in module.parameters()}
    sizes: dict[int, tuple[int, torch.Tensor]] = {}  # holding the tensor prevents that its address is reused

    def count(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            sizes[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        result = forward()
    assert result is not None
    return sum(size for size, _ in sizes.values())


def kept_by_llm(decoder: LanguageModel, positions: int) -> int:
    embeds = torch.randn(2, positions // 2, decoder.hidden_size, requires_grad=True)
    order = torch.arange(positions // 2)[None].expand(2, -1)
    return kept_bytes(decoder, lambda: decoder(embeds, None, order))


@pytest.mark.parametrize("lora", [None, LORA, {**LORA, "target_modules": EVERYWHERE}], ids=["whole", "lora", "lora7"])
@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
def test_activation_bytes_of_the_language_model_match_autograd(lora: dict[str, Any] | None, half: bool) -> None:
    conf = {"vocab_size": VOCAB, "config": LLM, "lora": lora}
    model = build_model(decoder=conf)
    positions = 2 * (6 + -(-model.frontend.num_frames(64000) // 2) + 12)
    plain = 0
    for checkpointing in (False, True):
        decoder = LanguageModel(**conf, gradient_checkpointing=checkpointing).train()
        if half and lora:
            for weight in decoder.parameters():
                weight.data = weight.data if weight.requires_grad else weight.data.bfloat16()
        model.decoder = decoder
        estimate = estimate_activations(model, SHAPE, GPU if half else CPU)["language model"]
        kept = kept_by_llm(decoder, positions)
        recomputed = plain // 4  # with checkpointing, the backward pass recomputes one of the four layers at a time
        assert 0.8 < (kept + recomputed) / estimate < 1.2
        plain = kept


def kept_by_encoder(encoder: HuggingFaceEncoder, length: int) -> int:
    """Return the bytes kept for the weighted sum of the states of two utterances, one a frame shorter."""
    weights = torch.ones(encoder.num_layers, requires_grad=True)

    def forward() -> Any:
        states, _ = encoder(torch.randn(2, length), torch.tensor([length, length - 320]))
        return sum(weight * state for weight, state in zip(weights, states, strict=True))

    return kept_bytes(encoder.train(), forward)


def estimate_of_encoder(encoder: HuggingFaceEncoder, length: int, precision: Precision = CPU) -> int:
    shape = BatchShape(utterances=2, length=length, tokens=12, prompt=6)
    return estimate_activations(build_model(frontend=encoder), shape, precision)["encoder"]


def check_trained_encoder(kind: Any, config: dict[str, Any], length: int) -> None:
    """Check the estimate without and with checkpointing of the four layers, but not of the convolutions before them."""
    plain = 0
    for checkpointing in (False, True):
        encoder = kind(config=config, freeze=False, gradient_checkpointing=checkpointing)
        kept = kept_by_encoder(encoder, length)
        recomputed = (plain - kept) // 4 if checkpointing else 0  # one layer at a time in the backward pass
        assert 0.8 < (kept + recomputed) / estimate_of_encoder(encoder, length) < 1.2
        plain = kept


@pytest.mark.parametrize("norm", ["layer", "group"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("model_type", ["wavlm", "hubert", "wav2vec2"])
def test_activation_bytes_of_a_trained_self_supervised_encoder_match_autograd(
    model_type: str, dropout: float, norm: str
) -> None:
    config = {**SSL, "model_type": model_type, "attention_dropout": dropout, "hidden_dropout": dropout}
    config |= {"feat_extract_norm": norm, "do_stable_layer_norm": norm == "layer", "activation_dropout": dropout}
    check_trained_encoder(SelfSupervisedEncoder, config, 64000)


@pytest.mark.parametrize("length", [16000, 320000])
def test_activation_bytes_of_a_trained_whisper_encoder_are_those_of_whole_windows(length: int) -> None:
    check_trained_encoder(WhisperEncoder, WHISPER, length)


def test_activation_bytes_of_a_frozen_whisper_encoder_are_utterance_frames_and_one_layer_of_windows() -> None:
    encoder = WhisperEncoder(config=WHISPER)
    states = 4 * 2 * 50 * 128
    assert kept_by_encoder(encoder, 16000) == 4 * states
    working = 2 * 1500 * (4 * 128 + 2 * 512)
    assert estimate_of_encoder(encoder, 16000) == 4 * (states + working)
    assert estimate_of_encoder(encoder, 16000, GPU) == 2 * (states + working)
    longer = estimate_of_encoder(encoder, 480001)
    assert longer == 4 * (4 * 2 * 1500 * 128 + 2 * working)  # a second window, for one sample


def two_utterances(task: int) -> SpeechBatch:
    """Return a batch of the size ``SHAPE``: 4 s of speech, 5 prompt tokens and 12 target tokens each."""
    ctc_text = [4] * 11 if task == 0 else [4]
    tokens = {"prompt": [5] * 5, "text": [4] * 11 + [2], "ctc_text": ctc_text, "task": [task], "label": [task - 1]}
    arrays = {name: np.array(value) for name, value in tokens.items()}
    return collated([{**arrays, "speech": noise(64000, seed)} for seed in (1, 2)])


@pytest.mark.parametrize("ctc", [True, False])
def test_activation_bytes_of_a_training_step_are_close_to_autograd(ctc: bool) -> None:
    encoder = ConformerEncoder(**{**LOGMEL, "hidden_size": 64, "num_heads": 1})
    model = build_model(frontend=encoder, decoder={"vocab_size": VOCAB, "config": LLM, "lora": LORA}, ctc=ctc).train()
    batch = two_utterances(task=0)
    kept = kept_bytes(model, lambda: model(batch)[0])
    estimate = sum(estimate_activations(model, SHAPE, CPU).values())
    assert 0.67 < kept / estimate < 1.5


def test_a_classifier_keeps_the_fused_states_of_all_positions() -> None:
    batch = two_utterances(task=1)
    kept, estimates = [], []
    for output in (TextOutput, BothOutput):
        decoder = {"vocab_size": VOCAB, "config": LLM, "lora": LORA}
        model = build_model(decoder=decoder, ctc=False, output=output).train()
        kept.append(kept_bytes(model, lambda model=model: model(batch)[0]))
        estimates.append(estimate_activations(model, SHAPE, CPU)["fusion and logits"])
    assert 0.67 < (kept[1] - kept[0]) / (estimates[1] - estimates[0]) < 1.5


def test_num_frames_is_the_number_of_frames_that_the_encoder_returns() -> None:
    encoder = ConformerEncoder(**LOGMEL).eval()
    for samples in (640, 5000, 16000):
        _, lengths = encoder(torch.zeros(1, samples), torch.tensor([samples]))
        assert encoder.num_frames(samples) == int(lengths)
    dumped = ConformerEncoder(**LOGMEL, feats_type="fbank").eval()
    assert dumped.num_frames(101) == int(dumped(torch.zeros(1, 101, 12), torch.tensor([101]))[1])
    assert PrecomputedEncoder(3, 16).num_frames(77) == 77
    for pretrained in (SelfSupervisedEncoder(config={**SSL, "model_type": "wavlm"}), WhisperEncoder(config=WHISPER)):
        assert pretrained.num_frames(16000) == 50  # of 20 ms, to within one frame


def test_bytes_of_weights_gradients_and_optimizer_state() -> None:
    model = build_model(decoder={"vocab_size": VOCAB, "config": QWEN2, "lora": LORA})
    frozen = sum(weight.numel() for weight in model.parameters() if not weight.requires_grad)
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    on_cpu = estimate_memory(model, SHAPE, CPU, 8.0, ranks=1)
    assert (on_cpu["weights"], on_cpu["gradients"]) == (4 * (frozen + trained), 4 * trained)
    assert on_cpu["optimizer"] == 8 * trained and "CUDA context and fragmentation" not in on_cpu
    on_gpus = estimate_memory(model, SHAPE, Precision(gpu=True, amp=True), 8.0, ranks=2)
    assert (on_gpus["weights"], on_gpus["gradients"]) == (2 * frozen + 4 * trained, 8 * trained)
    assert on_gpus["bfloat16 copies of trained weights"] == 2 * trained
    assert on_gpus["CUDA context and fragmentation"] > CUDA_CONTEXT


def test_element_size_follows_frozen_weights_and_autocast() -> None:
    model = build_model(decoder={"vocab_size": VOCAB, "config": QWEN2, "lora": LORA})
    whole = LanguageModel(VOCAB, config=QWEN2)
    for amp, gpu, expected in ((False, False, 4), (True, False, 4), (False, True, 2), (True, True, 2)):
        assert Precision(gpu, amp).element_size(model.decoder) == expected
    assert (GPU.element_size(whole), Precision(True, True).element_size(whole), GPU.element_size(model.gate)) == (
        4,
        2,
        4,
    )
    trained = WhisperEncoder(config=WHISPER, freeze=False)  # except its sinusoids
    assert (GPU.element_size(trained), GPU.element_size(WhisperEncoder(config=WHISPER))) == (4, 2)


def test_bytes_of_the_logits_of_a_large_vocabulary() -> None:
    model = build_model(decoder={"vocab_size": 5000, "config": QWEN2})
    parts = estimate_activations(model, BatchShape(utterances=3, length=16000, tokens=100, prompt=4), CPU)
    assert parts["fusion and logits"] == 300 * (3 * 3 * 32 * 4 + 5000 * 16)


def test_longer_and_more_utterances_need_more_memory() -> None:
    model = build_model()

    def total(**changes: int) -> int:
        return sum(estimate_activations(model, BatchShape(**{**vars(SHAPE), **changes}), CPU).values())

    assert total(utterances=4) == 2 * total()
    for field in ("length", "tokens", "prompt"):
        assert total(**{field: 2 * vars(SHAPE)[field]}) > total()


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        (torch.optim.AdamW, {}, 8),
        (torch.optim.SGD, {"lr": 0.1}, 0),
        (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}, 4),
    ],
)
def test_the_size_of_the_optimizer_state_is_measured(kind: Any, options: dict[str, Any], expected: int) -> None:
    optimizer = kind(nn.Linear(64, 64).parameters(), **options)
    assert optimizer_state_bytes(optimizer) == pytest.approx(expected, rel=0.01)
