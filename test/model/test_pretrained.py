"""Pre-trained models: brought in whole, shaped on the meta device, held in one precision whatever is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import QWEN2, save_llm
from torch import nn
from transformers import AutoModelForCausalLM

from harmonifuse_espnet.model.pretrained import Pretrained, load_pretrained


class Half(Pretrained):
    """One frozen weight, one trained."""

    frozen = True

    def __init__(self) -> None:
        super().__init__()
        self.base, self.trained = nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 2)


def test_weights_come_from_the_folder(tmp_path: Path) -> None:
    folder = save_llm(tmp_path)
    expected = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    found = load_pretrained("decoder_conf", AutoModelForCausalLM, folder, None).state_dict()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())


def test_on_the_meta_device_only_shapes_are_made_and_no_weights_are_needed(tmp_path: Path) -> None:
    folder = Path(save_llm(tmp_path))
    count = sum(weight.numel() for weight in AutoModelForCausalLM.from_pretrained(folder).parameters())
    (folder / "model.safetensors").unlink()
    with torch.device("meta"):
        llm = load_pretrained("decoder_conf", AutoModelForCausalLM, str(folder), None)
    assert all(weight.is_meta for weight in llm.parameters())
    assert sum(weight.numel() for weight in llm.parameters()) == count


def test_overrides_win_over_the_model_s_own_fields(tmp_path: Path) -> None:
    llm = load_pretrained("decoder_conf", AutoModelForCausalLM, save_llm(tmp_path), None, attention_dropout=0.25)
    assert llm.config.attention_dropout == 0.25
    config = {**QWEN2, "attention_dropout": 0.5}
    assert (
        load_pretrained("x", AutoModelForCausalLM, None, config, attention_dropout=0.25).config.attention_dropout
        == 0.25
    )


def test_exactly_one_of_model_and_config() -> None:
    for model, config in ((None, None), ("a", QWEN2)):
        with pytest.raises(ValueError, match="decoder_conf needs either 'model' or 'config', got model="):
            load_pretrained("decoder_conf", AutoModelForCausalLM, model, config)


def test_what_is_frozen_keeps_its_precision_and_what_is_trained_follows() -> None:
    module = Half().to(dtype=torch.float64)
    assert (module.base.weight.dtype, module.trained.weight.dtype) == (torch.float32, torch.float64)
    assert module.dtype == torch.float32


def test_a_model_that_learns_follows_whole_even_where_a_part_is_frozen() -> None:
    module = Half()
    module.frozen = False
    assert {weight.dtype for weight in module.to(dtype=torch.float64).parameters()} == {torch.float64}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: bfloat16 is for GPUs")
def test_what_is_frozen_is_bfloat16_on_a_gpu() -> None:
    module = Half().to(device="cuda", dtype=torch.float32)
    assert (module.base.weight.dtype, module.trained.weight.dtype) == (torch.bfloat16, torch.float32)
