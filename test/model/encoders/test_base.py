"""The interface of speech encoders: what a subclass must implement."""

from __future__ import annotations

import inspect

import pytest

from harmonifuse_espnet.model.encoders.base import SpeechEncoder
from harmonifuse_espnet.model.encoders.hugging_face import HuggingFaceEncoder
from harmonifuse_espnet.train.registry import frontend_choices


def test_an_encoder_without_the_three_methods_cannot_be_built() -> None:
    with pytest.raises(TypeError, match="abstract methods? .*activation_bytes.*forward.*num_frames"):
        SpeechEncoder()  # type: ignore[abstract]
    with pytest.raises(TypeError, match="abstract method"):
        HuggingFaceEncoder()  # type: ignore[abstract]


@pytest.mark.parametrize("name", list(frontend_choices.classes))
def test_every_choice_implements_the_interface(name: str) -> None:
    encoder = frontend_choices.classes[name]
    assert issubclass(encoder, SpeechEncoder) and not inspect.isabstract(encoder)
