"""What a step is reckoned to need, against the tensors that autograd keeps and against hand-worked sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny import ENCODER, LOGMEL, LORA, QWEN2, VOCAB, build_model, noise, pad
from torch import nn

from harmonifuse_espnet.model.encoders.conformer import ConformerEncoder
from harmonifuse_espnet.model.encoders.hugging_face import HuggingFaceEncoder
from harmonifuse_espnet.model.encoders.precomputed import PrecomputedEncoder
from harmonifuse_espnet.model.encoders.self_supervised import SelfSupervisedEncoder
from harmonifuse_espnet.model.encoders.whisper import WhisperEncoder
from harmonifuse_espnet.model.language_model import LanguageModel
from harmonifuse_espnet.model.outputs import BothOutput, TextOutput
from harmonifuse_espnet.train.memory_plan import (
    CONTEXT,
    BatchShape,
    Precision,
    activations,
    estimate_memory,
    frames_of,
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
    """Bytes of the storages that autograd keeps for the backward pass, parameters left out."""
    known = {weight.untyped_storage().data_ptr() for weight in module.parameters()}
    sizes: dict[int, tuple[int, torch.Tensor]] = {}  # the tensor keeps its address from being used again

    def count(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            sizes[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        outcome = forward()
    assert outcome is not None
    return sum(size for size, _ in sizes.values())


def kept_by_llm(decoder: LanguageModel, positions: int) -> int:
    embeds = torch.randn(2, positions // 2, decoder.hidden_size, requires_grad=True)
    order = torch.arange(positions // 2)[None].expand(2, -1)
    return kept_bytes(decoder, lambda: decoder(embeds, None, order))


@pytest.mark.parametrize("lora", [None, LORA, {**LORA, "target_modules": EVERYWHERE}], ids=["whole", "lora", "lora7"])
@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
def test_the_language_model_keeps_what_the_formula_says(lora: dict[str, Any] | None, half: bool) -> None:
    conf = {"vocab_size": VOCAB, "config": LLM, "lora": lora}
    model = build_model(decoder=conf)
    positions = 2 * (6 + -(-frames_of(model.frontend, 64000) // 2) + 12)
    plain = 0
    for checkpointing in (False, True):
        decoder = LanguageModel(**conf, gradient_checkpointing=checkpointing).train()
        if half and lora:
            for weight in decoder.parameters():
                weight.data = weight.data if weight.requires_grad else weight.data.bfloat16()
        model.decoder = decoder
        reckoned = activations(model, SHAPE, GPU if half else CPU)["language model"]
        kept = kept_by_llm(decoder, positions)
        again = plain // 4  # of the four layers, checkpointed, one at a time comes back in the backward pass
        assert 0.8 < (kept + again) / reckoned < 1.2
        plain = kept


def kept_by_encoder(frontend: HuggingFaceEncoder, length: int) -> int:
    """Of two utterances, one a frame shorter, whose states are weighed as the model does it."""
    weights = torch.ones(frontend.num_layers, requires_grad=True)

    def forward() -> Any:
        states, _ = frontend(torch.randn(2, length), torch.tensor([length, length - 320]))
        return sum(weight * state for weight, state in zip(weights, states, strict=True))

    return kept_bytes(frontend.train(), forward)


def reckoned_of_encoder(frontend: HuggingFaceEncoder, length: int, precision: Precision = CPU) -> int:
    shape = BatchShape(utterances=2, length=length, tokens=12, prompt=6)
    return activations(build_model(frontend=frontend), shape, precision)["encoder"]


def check_trained_encoder(kind: Any, config: dict[str, Any], length: int) -> None:
    """Without and with checkpointing, which covers the four layers, but not the convolutions before them."""
    plain = 0
    for checkpointing in (False, True):
        frontend = kind(config=config, freeze=False, gradient_checkpointing=checkpointing)
        kept = kept_by_encoder(frontend, length)
        again = (plain - kept) // 4 if checkpointing else 0  # one layer at a time comes back in the backward pass
        assert 0.8 < (kept + again) / reckoned_of_encoder(frontend, length) < 1.2
        plain = kept


@pytest.mark.parametrize("norm", ["layer", "group"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("model_type", ["wavlm", "hubert", "wav2vec2"])
def test_a_trained_encoder_keeps_its_convolutions_too(model_type: str, dropout: float, norm: str) -> None:
    config = {**SSL, "model_type": model_type, "attention_dropout": dropout, "hidden_dropout": dropout}
    config |= {"feat_extract_norm": norm, "do_stable_layer_norm": norm == "layer", "activation_dropout": dropout}
    check_trained_encoder(SelfSupervisedEncoder, config, 64000)


@pytest.mark.parametrize("length", [16000, 320000])
def test_a_trained_whisper_keeps_whole_windows(length: int) -> None:
    check_trained_encoder(WhisperEncoder, WHISPER, length)


def test_a_frozen_whisper_hands_out_the_utterances_frames_and_works_on_windows() -> None:
    frontend = WhisperEncoder(config=WHISPER)
    states = 4 * 2 * 50 * 128
    assert kept_by_encoder(frontend, 16000) == 4 * states
    working = 2 * 1500 * (4 * 128 + 2 * 512)
    assert reckoned_of_encoder(frontend, 16000) == 4 * (states + working)
    assert reckoned_of_encoder(frontend, 16000, GPU) == 2 * (states + working)
    longer = reckoned_of_encoder(frontend, 480001)
    assert longer == 4 * (4 * 2 * 1500 * 128 + 2 * working)  # a second window, for one sample


@pytest.mark.parametrize("ctc", [True, False])
def test_a_whole_step_keeps_what_the_formulas_say(ctc: bool) -> None:
    frontend = ConformerEncoder(**{**LOGMEL, "hidden_size": 64, "num_heads": 1})
    model = build_model(frontend=frontend, decoder={"vocab_size": VOCAB, "config": LLM, "lora": LORA}, ctc=ctc).train()
    batch = pad([noise(64000, 1), noise(64000, 2)], "speech") | pad([[4] * 11 + [2]] * 2, "text")
    batch |= pad([[5] * 5] * 2, "prompt") | pad([[4] * 11] * 2, "ctc_text")
    batch |= pad([[0]] * 2, "task") | pad([[-1]] * 2, "label")
    kept = kept_bytes(model, lambda: model(**batch)[0])
    reckoned = sum(activations(model, SHAPE, CPU).values())
    assert 0.67 < kept / reckoned < 1.5


def test_a_classifier_keeps_the_fusion_of_every_position_that_it_pools() -> None:
    """Beside the fusion of the words."""
    batch = pad([noise(64000, 1), noise(64000, 2)], "speech") | pad([[4] * 11 + [2]] * 2, "text")
    batch |= (
        pad([[5] * 5] * 2, "prompt") | pad([[4]] * 2, "ctc_text") | pad([[1]] * 2, "task") | pad([[0]] * 2, "label")
    )
    kept, reckoned = [], []
    for output in (TextOutput, BothOutput):
        decoder = {"vocab_size": VOCAB, "config": LLM, "lora": LORA}
        model = build_model(decoder=decoder, ctc=False, output=output).train()
        kept.append(kept_bytes(model, lambda model=model: model(**batch)[0]))
        reckoned.append(activations(model, SHAPE, CPU)["fusion and logits"])
    assert 0.67 < (kept[1] - kept[0]) / (reckoned[1] - reckoned[0]) < 1.5


def test_frames_are_those_of_the_frontends() -> None:
    frontend = ConformerEncoder(**LOGMEL).eval()
    for samples in (640, 5000, 16000):
        _, lengths = frontend(torch.zeros(1, samples), torch.tensor([samples]))
        assert frames_of(frontend, samples) == int(lengths)
    dumped = ConformerEncoder(**LOGMEL, feats_type="fbank").eval()
    assert frames_of(dumped, 101) == int(dumped(torch.zeros(1, 101, 12), torch.tensor([101]))[1])
    assert frames_of(PrecomputedEncoder(3, 16), 77) == 77
    assert frames_of(nn.Module(), 16000) == 50  # pre-trained: 20 ms


def test_weights_gradients_and_state_by_hand() -> None:
    model = build_model(decoder={"vocab_size": VOCAB, "config": QWEN2, "lora": LORA})
    frozen = sum(weight.numel() for weight in model.parameters() if not weight.requires_grad)
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    on_cpu = estimate_memory(model, SHAPE, CPU, 8.0, ranks=1)
    assert (on_cpu["weights"], on_cpu["gradients"]) == (4 * (frozen + trained), 4 * trained)
    assert on_cpu["optimizer"] == 8 * trained and "CUDA context and fragments" not in on_cpu
    on_gpus = estimate_memory(model, SHAPE, Precision(gpu=True, amp=True), 8.0, ranks=2)
    assert (on_gpus["weights"], on_gpus["gradients"]) == (2 * frozen + 4 * trained, 8 * trained)
    assert on_gpus["bfloat16 copies of trained weights"] == 2 * trained
    assert on_gpus["CUDA context and fragments"] > CONTEXT


def test_a_part_s_precision_is_that_of_its_frozen_weights_or_of_autocast() -> None:
    model = build_model(decoder={"vocab_size": VOCAB, "config": QWEN2, "lora": LORA})
    whole = LanguageModel(VOCAB, config=QWEN2)
    for amp, gpu, expected in ((False, False, 4), (True, False, 4), (False, True, 2), (True, True, 2)):
        assert Precision(gpu, amp).activation(model.decoder) == expected
    assert (GPU.activation(whole), Precision(True, True).activation(whole), GPU.activation(model.gate)) == (4, 2, 4)
    trained = WhisperEncoder(config=WHISPER, freeze=False)  # but for its sinusoids
    assert (GPU.activation(trained), GPU.activation(WhisperEncoder(config=WHISPER))) == (4, 2)


def test_logits_of_a_large_vocabulary_count() -> None:
    model = build_model(decoder={"vocab_size": 5000, "config": QWEN2})
    parts = activations(model, BatchShape(utterances=3, length=16000, tokens=100, prompt=4), CPU)
    assert parts["fusion and logits"] == 300 * (3 * 3 * 32 * 4 + 5000 * 16)


def test_longer_and_more_utterances_need_more() -> None:
    model = build_model()

    def total(**changes: int) -> int:
        return sum(activations(model, BatchShape(**{**vars(SHAPE), **changes}), CPU).values())

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
def test_optimizers_tell_their_state_s_size(kind: Any, options: dict[str, Any], expected: int) -> None:
    optimizer = kind(nn.Linear(64, 64).parameters(), **options)
    assert optimizer_state_bytes(optimizer) == pytest.approx(expected, rel=0.01)
