"""Pre-trained models: loaded weights, shapes on the meta device, and the precision of frozen parameters."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import QWEN2, save_llm
from torch import nn
from transformers import AutoFeatureExtractor, AutoModelForCausalLM

from harmonifuse_espnet.common.errors import InputError, MissingFileError, UserError
from harmonifuse_espnet.model.pretrained import Pretrained, load_feature_extractor, load_pretrained, short_errors


class Half(Pretrained):
    """A frozen and a trained layer."""

    frozen = True

    def __init__(self) -> None:
        super().__init__()
        self.base, self.trained = nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 2)


def test_weights_are_loaded_from_the_folder(tmp_path: Path) -> None:
    folder = save_llm(tmp_path)
    expected = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    found = load_pretrained("decoder_conf", AutoModelForCausalLM, folder, None).state_dict()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())


def test_on_the_meta_device_shapes_need_no_weights(tmp_path: Path) -> None:
    folder = Path(save_llm(tmp_path))
    count = sum(weight.numel() for weight in AutoModelForCausalLM.from_pretrained(folder).parameters())
    (folder / "model.safetensors").unlink()
    with torch.device("meta"):
        llm = load_pretrained("decoder_conf", AutoModelForCausalLM, str(folder), None)
    assert all(weight.is_meta for weight in llm.parameters())
    assert sum(weight.numel() for weight in llm.parameters()) == count


def test_overrides_replace_fields_of_the_config(tmp_path: Path) -> None:
    llm = load_pretrained("decoder_conf", AutoModelForCausalLM, save_llm(tmp_path), None, attention_dropout=0.25)
    assert llm.config.attention_dropout == 0.25
    config = {**QWEN2, "attention_dropout": 0.5}
    assert (
        load_pretrained("x", AutoModelForCausalLM, None, config, attention_dropout=0.25).config.attention_dropout
        == 0.25
    )


def test_both_or_neither_of_model_and_config_are_refused() -> None:
    for model, config in ((None, None), ("a", QWEN2)):
        with pytest.raises(ValueError, match="decoder_conf needs either 'model' or 'config', got model="):
            load_pretrained("decoder_conf", AutoModelForCausalLM, model, config)


UNKNOWN = "decoder_conf: config has model_type 'qwen99', which Hugging Face transformers does not know; correct it or i"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "qwen99"}, UNKNOWN),
        ({"hidden_size": 32}, "decoder_conf: config has no model_type; add it, such as model_type: wavlm or qwen2"),
        ({"model_type": "wavlm"}, "decoder_conf: config is invalid: Unrecognized configuration class .*; correct it"),
        ({**QWEN2, "hidden_size": "wide"}, "config is invalid: .*'hidden_size' expected int, got str .*; correct it"),
    ],
)
def test_an_invalid_config_is_refused_in_one_line(config: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        load_pretrained("decoder_conf", AutoModelForCausalLM, None, config)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_missing_model_is_refused_in_one_line(device: str, tmp_path: Path) -> None:
    missing, empty = tmp_path / "missing", tmp_path / "empty"
    empty.mkdir()
    with torch.device(device):
        remedy = "correct the name, or download the model with tools/fetch_models.py and give its folder"
        with pytest.raises(MissingFileError, match=f"decoder_conf: {missing} is neither a folder nor a .*{remedy}"):
            load_pretrained("decoder_conf", AutoModelForCausalLM, str(missing), None)
        with pytest.raises(InputError, match=f"the config.json of {empty} is invalid: .*model_type.*; correct it"):
            load_pretrained("decoder_conf", AutoModelForCausalLM, str(empty), None)
        (empty / "config.json").write_text('{"model_type": "qwen99"}')
        with pytest.raises(InputError, match=f"the config.json of {empty} is invalid: .*`qwen99`.*; correct") as error:
            load_pretrained("decoder_conf", AutoModelForCausalLM, str(empty), None)
    assert "\n" not in str(error.value)


def test_a_folder_without_weights_or_feature_extractor_is_refused(tmp_path: Path) -> None:
    folder = Path(save_llm(tmp_path))
    with pytest.raises(MissingFileError, match=f"frontend_conf: the folder {folder} cannot be loaded .*feature extra"):
        load_feature_extractor("frontend_conf", AutoFeatureExtractor, str(folder))
    (folder / "model.safetensors").unlink()
    with pytest.raises(
        MissingFileError, match=f"decoder_conf: the folder {folder} cannot be loaded .*no file named mod"
    ):
        load_pretrained("decoder_conf", AutoModelForCausalLM, str(folder), None)


def test_errors_of_the_file_system_are_not_changed() -> None:
    with pytest.raises(OSError, match="No space left") as error, short_errors("decoder_conf", "a/b"):
        raise OSError(28, "No space left on device")
    assert not isinstance(error.value, UserError)


def test_frozen_parameters_keep_their_precision_and_trained_ones_are_converted() -> None:
    module = Half().to(dtype=torch.float64)
    assert (module.base.weight.dtype, module.trained.weight.dtype) == (torch.float32, torch.float64)
    assert module.dtype == torch.float32


def test_all_parameters_of_a_model_that_is_not_frozen_are_converted() -> None:
    module = Half()
    module.frozen = False
    assert {weight.dtype for weight in module.to(dtype=torch.float64).parameters()} == {torch.float64}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: bfloat16 is for GPUs")
def test_frozen_parameters_are_bfloat16_on_a_gpu() -> None:
    module = Half().to(device="cuda", dtype=torch.float32)
    assert (module.base.weight.dtype, module.trained.weight.dtype) == (torch.bfloat16, torch.float32)


def write_remote_code(folder: Path, traces: Path) -> None:
    """Make the model's folder ask for Python files of its own, which leave ``traces``."""
    (folder / "evil.py").write_text(
        f"open({str(traces)!r}, 'w').close()\n"
        "from transformers import Qwen2Config, Qwen2ForCausalLM, Wav2Vec2FeatureExtractor\n"
        "class Config(Qwen2Config): model_type = 'evil'\n"
        "class Model(Qwen2ForCausalLM): config_class = Config\n"
        "class Extractor(Wav2Vec2FeatureExtractor): pass\n"
    )
    fields = json.loads((folder / "config.json").read_text())
    classes = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model", "AutoModel": "evil.Model"}
    (folder / "config.json").write_text(json.dumps({**fields, "model_type": "evil", "auto_map": classes}))
    extractor = {"feature_extractor_type": "Extractor", "auto_map": {"AutoFeatureExtractor": "evil.Extractor"}}
    (folder / "preprocessor_config.json").write_text(json.dumps(extractor))


@pytest.fixture
def remote_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A model with remote code and the file that the code would write; the user would answer "y" to a question."""

    def answer(question: str = "") -> str:
        (tmp_path / "PROMPTED").touch()
        return "y"

    monkeypatch.setattr("builtins.input", answer)
    folder = Path(save_llm(tmp_path / "llm"))
    write_remote_code(folder, tmp_path / "RAN")
    return folder, tmp_path / "RAN"


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_remote_code_of_a_model_is_not_run_and_the_user_is_not_prompted(
    remote_code: tuple[Path, Path], device: str
) -> None:
    folder, traces = remote_code
    with torch.device(device), pytest.raises(InputError) as error:
        load_pretrained("decoder_conf", AutoModelForCausalLM, str(folder), None)
    assert not traces.exists() and not traces.with_name("PROMPTED").exists()
    assert str(error.value) == (
        f"decoder_conf: the model {folder} needs code of its author, which is not run; use a model whose class is part "
        "of Hugging Face transformers"
    )


def test_remote_code_of_a_feature_extractor_is_not_run_and_the_user_is_not_prompted(
    remote_code: tuple[Path, Path],
) -> None:
    folder, traces = remote_code
    with pytest.raises(InputError) as error:
        load_feature_extractor("frontend_conf", AutoFeatureExtractor, str(folder))
    assert not traces.exists() and not traces.with_name("PROMPTED").exists()
    assert str(error.value) == (
        f"frontend_conf: the model {folder} needs code of its author, which is not run; use a model whose class is "
        "part of Hugging Face transformers"
    )


def test_a_model_with_remote_code_that_transformers_has_is_loaded_without_it(remote_code: tuple[Path, Path]) -> None:
    folder, traces = remote_code
    fields = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**fields, "model_type": "qwen2"}))
    llm = load_pretrained("decoder_conf", AutoModelForCausalLM, str(folder), None)
    assert type(llm).__module__.startswith("transformers.models.qwen2.") and not traces.exists()


KERNEL = "a repository with code, which is not run; use eager or sdpa"
REMOTE_FIELDS = [
    ({"trust_remote_code": True}, "trust_remote_code: True, but code of a model's author is not run; remove it"),
    ({"attn_implementation": "evil/kernel"}, f"attn_implementation: evil/kernel, {KERNEL}"),
    (
        {"attn_implementation": "paged|evil/kernel@main:run"},
        f"attn_implementation: paged|evil/kernel@main:run, {KERNEL}",
    ),
    ({"experts_implementation": "evil/experts"}, f"experts_implementation: evil/experts, {KERNEL}"),
]


@pytest.mark.parametrize(("fields", "problem"), REMOTE_FIELDS)
def test_fields_that_run_code_are_refused_in_a_config_and_in_a_folder(
    fields: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as error:
        load_pretrained("decoder_conf", AutoModelForCausalLM, None, {**QWEN2, **fields})
    assert str(error.value) == f"decoder_conf: config has {problem}"
    folder = Path(save_llm(tmp_path))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **fields}))
    for device in ("cpu", "meta"):
        with torch.device(device), pytest.raises(InputError) as error:
            load_pretrained("decoder_conf", AutoModelForCausalLM, str(folder), None)
        assert str(error.value) == f"decoder_conf: the config.json of {folder} has {problem}"


def test_fields_that_run_code_are_refused_in_parts_of_a_composite_model() -> None:
    config = {"model_type": "llava", "text_config": {"model_type": "llama", "attn_implementation": "evil/kernel"}}
    with pytest.raises(InputError) as error:
        load_pretrained("decoder_conf", AutoModelForCausalLM, None, config)
    assert str(error.value) == f"decoder_conf: config has attn_implementation: evil/kernel, {KERNEL}"
    by_part = {**QWEN2, "attn_implementation": {"": "sdpa", "text_config": "evil/kernel"}}
    with pytest.raises(InputError, match="decoder_conf: config has attn_implementation: evil/kernel, a repository"):
        load_pretrained("decoder_conf", AutoModelForCausalLM, None, by_part)


def test_attention_implementations_of_transformers_are_accepted(tmp_path: Path) -> None:
    config = {**QWEN2, "vocab_size": 30, "attn_implementation": "eager"}
    llm = load_pretrained("decoder_conf", AutoModelForCausalLM, None, config)
    assert llm.config._attn_implementation == "eager"


def test_weights_that_would_run_code_are_refused(tmp_path: Path) -> None:
    """transformers itself reads ``pytorch_model.bin`` with its restricted unpickler."""

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path}/RAN",)

    folder = Path(save_llm(tmp_path / "llm"))
    (folder / "model.safetensors").unlink()
    torch.save({"zz": Payload()}, folder / "pytorch_model.bin")
    with pytest.raises(InputError) as error:
        load_pretrained("decoder_conf", AutoModelForCausalLM, str(folder), None)
    assert str(error.value) == (
        f"decoder_conf: the weights of {folder} are a damaged pickle file or one with code of its author, which is not "
        "run; use a model with .safetensors files"
    )
    assert not (tmp_path / "RAN").exists()
