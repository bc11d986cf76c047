"""Self-supervised encoders: Hugging Face's states, one at a time, in any batch; frozen or trained."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from encoders import check_batch_invariant, library_states, speech_batch
from tiny import encoder_config, noise, save_encoder
from torch.nn.attention import SDPBackend, sdpa_kernel

from harmonifuse_espnet.model.encoders import packed_attention, wavlm_attention
from harmonifuse_espnet.model.encoders.device_limit import DeviceLimit
from harmonifuse_espnet.model.encoders.self_supervised import SelfSupervisedEncoder
from harmonifuse_espnet.model.layer_weights import weighted_sum

LARGE: dict[str, Any] = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
BASE: dict[str, Any] = {"feat_extract_norm": "group", "do_stable_layer_norm": False}
STYLES = [(kind, style) for kind in ("wavlm", "hubert", "wav2vec2") for style in (LARGE, BASE)]
# Distances up to 8 frames have a bucket each, those up to 40 wider ones, longer ones share one; the longest utterance
# here has 124 frames.
BUCKETS = {"num_buckets": 32, "max_bucket_distance": 40}
WAVLM_LARGE: dict[str, Any] = {
    **{"model_type": "wavlm", "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16},
    **{"intermediate_size": 4096, **LARGE},
}
BIASED = {"conv_bias": True}  # hubert-large-ll60k and wav2vec2-large-lv60, not wavlm-large
WAVLM_BASE = {"model_type": "wavlm", **BASE}


DROPOUTS = ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout")


def build(model_type: str = "wavlm", freeze: bool = True, **fields: Any) -> SelfSupervisedEncoder:
    torch.manual_seed(0)
    config = {**encoder_config(model_type), **(BUCKETS if model_type == "wavlm" else {}), **fields}
    return SelfSupervisedEncoder(config=config, freeze=freeze).eval()


@pytest.fixture(scope="module")
def wavlm(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_encoder(tmp_path_factory.mktemp("wavlm"))


@pytest.mark.parametrize("scores", [1, 5000, 2**23], ids=["one query at a time", "some queries", "all at once"])
@pytest.mark.parametrize(("model_type", "style"), STYLES)
def test_states_are_those_of_hugging_face(
    model_type: str, style: dict[str, Any], scores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_attention, "SCORES_PER_CALL", DeviceLimit(scores, 1))
    monkeypatch.setattr(wavlm_attention, "BIASES_AT_A_TIME", DeviceLimit(scores, 1))
    encoder = build(model_type, **style)
    for samples in ((40000, 12000, 12000, 640), (8000, 8000), (40000,)):
        speech, lengths = speech_batch(samples)
        states, frames = encoder(speech, lengths)
        states, expected = list(states), library_states(encoder, speech, lengths)
        assert len(states) == encoder.num_layers == 3 and int(frames.max()) == states[0].size(1)
        for state, hidden in zip(states, expected, strict=True):
            torch.testing.assert_close(state, hidden, atol=1e-4, rtol=0)
            assert hidden.std() > 0.3


@pytest.mark.parametrize(("model_type", "style"), STYLES)
def test_attention_is_fused(model_type: str, style: dict[str, Any]) -> None:
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):  # an error if only the kernel that writes all scores fits
        assert len(list(build(model_type, **style)(*speech_batch())[0])) == 3


def test_the_adapter_of_mms_models_is_applied() -> None:
    encoder = build("wav2vec2", adapter_attn_dim=4)
    speech, lengths = speech_batch()
    for state, hidden in zip(encoder(speech, lengths)[0], library_states(encoder, speech, lengths), strict=True):
        torch.testing.assert_close(state, hidden, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("model_type", "style"), STYLES)
def test_states_do_not_depend_on_the_batch(model_type: str, style: dict[str, Any]) -> None:
    check_batch_invariant(build(model_type, **style))


def test_states_do_not_depend_on_samples_beyond_the_end_and_are_zero_there() -> None:
    encoder, (speech, lengths) = build(), speech_batch()
    loud = speech.masked_fill(torch.arange(speech.size(1)) >= lengths[:, None], 1.0)
    frames = encoder.frame_lengths(lengths)
    for one, other in zip(encoder(speech, lengths)[0], encoder(loud, lengths)[0], strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
        assert all(not row[count:].any() and row[:count].any() for row, count in zip(one, frames, strict=True))


def test_frames_follow_the_convolutions() -> None:
    encoder = build()
    for samples in (640, 4001, 16000):
        expected = samples
        for kernel, stride in zip(encoder_config()["conv_kernel"], encoder_config()["conv_stride"], strict=True):
            expected = (expected - kernel) // stride + 1
        states, lengths = encoder(torch.zeros(1, samples), torch.tensor([samples]))
        assert lengths.tolist() == [next(states).size(1)] == [expected]


def test_an_utterance_shorter_than_a_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="an utterance of 324 samples is shorter than a frame of the encoder, 325; dr"):
        build()(torch.zeros(2, 800), torch.tensor([800, 324]))


def test_a_layer_runs_when_its_state_is_requested_and_one_state_is_in_memory_at_a_time() -> None:
    encoder, (speech, lengths) = build(num_hidden_layers=5), speech_batch()
    runs = []
    for layer in encoder.encoder.encoder.layers:
        layer.feed_forward.register_forward_hook(lambda *_: runs.append(1))
    states: list[weakref.ref] = []
    for count, state in enumerate(encoder(speech, lengths)[0], start=1):
        states.append(weakref.ref(state))
        assert len(runs) == count and sum(ref() is not None for ref in states) == 1


def test_the_lazy_weighted_sum_equals_the_eager_one() -> None:
    encoder, (speech, lengths) = build(), speech_batch()
    weights = torch.rand(len(lengths), 3, requires_grad=True)
    eager = sum(
        weight[:, None, None] * state
        for weight, state in zip(weights.T, list(encoder(speech, lengths)[0]), strict=True)
    )
    lazy = weighted_sum(encoder(speech, lengths)[0], weights)
    torch.testing.assert_close(lazy, eager)
    expected, found = (torch.autograd.grad(total.square().sum(), weights)[0] for total in (eager, lazy))
    torch.testing.assert_close(found, expected)


def test_a_frozen_encoder_stays_in_eval_mode_and_has_no_gradients(wavlm: str) -> None:
    encoder = SelfSupervisedEncoder(model=wavlm).train()
    assert encoder.training and not any(module.training for module in encoder.encoder.modules())
    states = []
    for state in encoder(torch.from_numpy(noise(8000))[None], torch.tensor([8000]))[0]:
        assert not state.requires_grad and torch.is_grad_enabled()  # on between two states
        states.append(state)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    *_, again = encoder(torch.from_numpy(noise(8000))[None], torch.tensor([8000]))[0]
    assert torch.equal(states[-1], again)  # no dropout, no masking


def test_speech_is_standardized_if_the_model_s_preprocessor_does_so(wavlm: str) -> None:
    encoder, speech = SelfSupervisedEncoder(model=wavlm), torch.from_numpy(noise(8000))[None]
    scaled = (speech - speech.mean()) / (speech.var(unbiased=False) + 1e-7).sqrt()
    torch.testing.assert_close(encoder.preprocess(speech, torch.tensor([8000])), scaled)
    assert torch.equal(build(**BASE).preprocess(speech, torch.tensor([8000])), speech)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(("model_type", "style"), STYLES)
def test_gradients_reach_every_parameter_that_the_states_depend_on(
    model_type: str, style: dict[str, Any], checkpointing: bool
) -> None:
    encoder = build(model_type, freeze=False, **style).train()
    assert encoder.encoder.training and encoder.encoder.config.layerdrop == 0.0
    encoder.gradient_checkpointing = checkpointing
    sum(state.square().sum() for state in encoder(*speech_batch())[0]).backward()
    idle = {name for name, weight in encoder.encoder.named_parameters() if weight.grad is None}
    unread = {"encoder.layer_norm.weight", "encoder.layer_norm.bias"} if style == LARGE else set()
    assert idle == {"masked_spec_embed"} | unread  # nor do Hugging Face's hidden_states depend on these
    reached = {name for name, weight in encoder.encoder.named_parameters() if name not in idle and weight.grad.any()}
    # softmax does not depend on a bias of the keys
    near_zero = {name for name in dict(encoder.encoder.named_parameters()) if name.endswith("k_proj.bias")}
    assert reached | idle | near_zero == set(dict(encoder.encoder.named_parameters()))


def test_gradients_are_those_of_hugging_face_with_and_without_checkpointing() -> None:
    speech, lengths = speech_batch((12000, 4001, 7777))
    found = []
    for kind in ("library", "ours", "checkpointed"):
        encoder = build(freeze=False, **dict.fromkeys(DROPOUTS, 0.0))
        if kind == "library":
            inputs = encoder.preprocess(speech, lengths)
            mask = (torch.arange(speech.size(1)) < lengths[:, None]).long()
            states = encoder.encoder(inputs, attention_mask=mask, output_hidden_states=True).hidden_states[1:]
        else:
            encoder.gradient_checkpointing = kind == "checkpointed"
            encoder.train()
            states = list(encoder(speech, lengths)[0])
        valid = torch.arange(states[0].size(1)) < encoder.frame_lengths(lengths)[:, None]
        sum(state[valid].tanh().sum() for state in states).backward()
        found.append({name: w.grad for name, w in encoder.encoder.named_parameters() if w.grad is not None})
    for name, gradient in found[0].items():
        for other in found[1:]:
            torch.testing.assert_close(other[name], gradient, atol=1e-3, rtol=1e-3, msg=name)


def test_dropout_is_applied_in_training_only() -> None:
    encoder, batch = build(freeze=False, hidden_dropout=0.5, attention_dropout=0.5), speech_batch()
    first, second = (list(encoder(*batch)[0])[-1] for _ in range(2))
    assert torch.equal(first, second)
    encoder.train()
    first, second = (list(encoder(*batch)[0])[-1] for _ in range(2))
    assert not torch.allclose(first, second, atol=0.1)


@pytest.fixture
def without_onednn() -> Iterator[None]:
    """Use PyTorch's own kernels: bfloat16 convolutions of oneDNN (torch 2.11) are wrong on CPUs with AMX."""
    with torch.backends.mkldnn.flags(enabled=False):
        yield


@pytest.mark.usefixtures("without_onednn")
def test_autocast_applies_to_trained_encoders_only() -> None:
    batch = speech_batch()
    for freeze in (True, False):
        encoder = build(freeze=freeze)
        expected = list(encoder(*batch)[0])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            states = list(encoder(*batch)[0])
            assert torch.is_autocast_enabled("cpu")
        for state, whole in zip(states, expected, strict=True):
            difference = (state - whole).abs().mean() / whole.abs().mean()
            assert difference == 0 if freeze else 0 < difference < 0.05


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize(("model_type", "style"), STYLES)
def test_states_on_a_gpu_are_close_to_those_of_the_cpu(model_type: str, style: dict[str, Any]) -> None:
    encoder, (speech, lengths) = build(model_type, **style), speech_batch()
    expected = list(encoder(speech, lengths)[0])
    with torch.autocast("cuda", dtype=torch.bfloat16):
        states = list(encoder.cuda()(speech.cuda(), lengths.cuda())[0])
    assert {state.dtype for state in states} == {torch.bfloat16}
    for state, whole in zip(states, expected, strict=True):
        assert (state.float().cpu() - whole).abs().mean() < 0.05 * whole.abs().mean()


def test_frozen_weights_loaded_by_name_are_restorable(wavlm: str) -> None:
    assert SelfSupervisedEncoder(model=wavlm).restorable
    assert not SelfSupervisedEncoder(model=wavlm, freeze=False).restorable
    assert not SelfSupervisedEncoder(config=encoder_config()).restorable


@pytest.mark.parametrize("conf", [{}, {"model": "a", "config": {"model_type": "wavlm"}}])
def test_both_or_neither_of_model_and_config_are_refused(conf: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="frontend_conf needs either 'model' or 'config', got model="):
        SelfSupervisedEncoder(**conf)


def test_other_model_types_are_refused() -> None:
    with pytest.raises(ValueError, match="config is of type bert, the frontend huggingface supports wavlm, hubert, wa"):
        SelfSupervisedEncoder(config={"model_type": "bert", "hidden_size": 8, "num_attention_heads": 2})


def parameters(width: int, layers: int, feedforward: int, norms: int, biases: int, heads: int = 0) -> int:
    """Count the parameters of an encoder from its architecture.

    Seven convolutions of 512 channels, of which ``norms`` have a norm and ``biases`` a bias; a projection; a grouped
    convolution over 128 frames for the positions; the layers; with WavLM's ``heads``, gates and 320 buckets of
    distances (Baevski et al., 2020, arXiv:2006.11477, section 4; Hsu et al., 2021, arXiv:2106.07447, table 1; Chen et
    al., 2022, arXiv:2110.13900, section III).
    """
    convs = 512 * (10 + 512 * (3 + 3 + 3 + 3 + 2 + 2)) + norms * 2 * 512 + biases * 512
    project = 2 * 512 + 512 * width + width
    positions = width * (width // 16) * 128 + 128 + width  # weight normalisation: a norm for each of 128 taps
    layer = 4 * (width * width + width) + 2 * width * feedforward + feedforward + width + 4 * width
    gates = layers * (heads + 64 * 8 + 8) + 320 * heads if heads else 0
    return (
        convs + project + positions + layers * layer + gates + 2 * width + width
    )  # the final norm and the mask embedding


@pytest.mark.parametrize(
    ("config", "expected", "millions"),
    [
        (WAVLM_LARGE, parameters(1024, 24, 4096, norms=7, biases=0, heads=16), 315.45),
        ({**WAVLM_LARGE, **BIASED, "model_type": "hubert"}, parameters(1024, 24, 4096, norms=7, biases=7), 315.44),
        ({**WAVLM_LARGE, **BIASED, "model_type": "wav2vec2"}, parameters(1024, 24, 4096, norms=7, biases=7), 315.44),
        (WAVLM_BASE, parameters(768, 12, 3072, norms=1, biases=0, heads=12), 94.38),
        ({**WAVLM_BASE, "model_type": "hubert"}, parameters(768, 12, 3072, norms=1, biases=0), 94.37),
        ({**WAVLM_BASE, "model_type": "wav2vec2"}, parameters(768, 12, 3072, norms=1, biases=0), 94.37),
    ],
)
def test_published_sizes_follow_from_the_architecture(config: dict[str, Any], expected: int, millions: float) -> None:
    with torch.device("meta"):
        encoder = SelfSupervisedEncoder(config=config)
    count = sum(weight.numel() for weight in encoder.parameters())
    assert count == expected and round(count / 1e6, 2) == millions
