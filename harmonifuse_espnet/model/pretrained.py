"""Pre-trained models from Hugging Face: loading, and the precision of frozen weights."""

from __future__ import annotations

import pickle
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig, PreTrainedModel

from harmonifuse_espnet.common.errors import InputError, MissingFileError, UserError
from harmonifuse_espnet.common.remote_code import no_remote_code


def load_pretrained(
    option: str, auto: Any, model: str | None, config: Mapping[str, Any] | None, **overrides: Any
) -> PreTrainedModel:
    """Load a pre-trained model, or build one with random weights.

    On the meta device (``with torch.device("meta")``), only the configuration is read: memory is estimated without
    downloading the weights.

    Args:
        option: Option that has ``model`` and ``config``, for error messages.
        auto: ``AutoModel``, ``AutoModelForCausalLM``, ...
        model: Name on the Hugging Face Hub or folder of a pre-trained model.
        config: Fields of the Hugging Face configuration for random weights, such as ``{"model_type": "wavlm"}``.
        overrides: Fields of the configuration to change.

    Raises:
        InputError: if not exactly one of ``model`` and ``config`` is given, the configuration is invalid, or the model
            needs code of its author.
        MissingFileError: if the model does not exist, or its folder is incomplete.
    """
    if (model is None) == (config is None):
        raise InputError(f"{option} needs either 'model' or 'config', got model={model}, config={config}")
    with short_errors(option, model):
        if config is not None:
            _check_model_type(option, config.get("model_type"))
            refuse_code(f"{option}: config", config)
            return auto.from_config(AutoConfig.for_model(**{**config, **overrides}), trust_remote_code=False)
        loaded = AutoConfig.from_pretrained(model, trust_remote_code=False, **overrides)
        refuse_code(f"{option}: the config.json of {model}", loaded)
        if torch.get_default_device().type == "meta":
            return auto.from_config(loaded, trust_remote_code=False)
        return auto.from_pretrained(model, config=loaded, dtype=torch.float32, trust_remote_code=False)


def load_feature_extractor(option: str, auto: Any, model: str) -> Any:
    """Load the feature extractor of a pre-trained encoder with ``auto``, such as ``AutoFeatureExtractor``.

    Raises:
        MissingFileError: if the model does not exist, or has no ``preprocessor_config.json``.
    """
    with short_errors(option, model):
        return auto.from_pretrained(model, trust_remote_code=False)


def refuse_code(where: str, config: Any) -> None:
    """Refuse fields of a Hugging Face configuration that make ``transformers`` run code of the model's author.

    Args:
        where: What has the configuration, for the error message.
        config: A configuration of Hugging Face, or the mapping of its fields.

    Raises:
        InputError: for ``trust_remote_code``, and an ``attn_implementation`` that is a repository of kernels.

    Example:
        >>> refuse_code("decoder_conf: config", {"model_type": "qwen2", "attn_implementation": "sdpa"})
    """
    fields = vars(config) if isinstance(config, PreTrainedConfig) else config
    if isinstance(fields, (list, tuple)):
        fields = dict(enumerate(fields))
    for key, value in fields.items() if isinstance(fields, Mapping) else ():
        name = str(key).removesuffix("_internal").removeprefix("_")
        if name == "trust_remote_code" and value not in (None, False):
            raise InputError(f"{where} has {name}: {value}, but code of a model's author is not run; remove it")
        implementations = [value, *value.values()] if isinstance(value, Mapping) else [value]
        repositories = [one for one in implementations if isinstance(one, str) and "/" in one]
        if name.endswith("_implementation") and repositories:
            raise InputError(
                f"{where} has {name}: {repositories[0]}, a repository with code, which is not run; use eager or sdpa"
            )
        refuse_code(where, value)


@contextmanager
def short_errors(option: str, model: str | None) -> Iterator[None]:
    """Convert errors of Hugging Face's loaders to one-line errors with a remedy; refuse remote code.

    Raises:
        InputError: for an invalid configuration, or a model that needs code of its author.
        MissingFileError: for a model or a file of its folder that does not exist.
    """
    try:
        with no_remote_code():
            yield
    except UserError:
        raise
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{option}: the weights of {model} are a damaged pickle file or one with code of its author, which is not "
            "run; use a model with .safetensors files"
        ) from error
    except (ValueError, StrictDataclassError) as error:
        if "trust_remote_code" in str(error):
            raise InputError(
                f"{option}: the model {model} needs code of its author, which is not run; use a model whose class is "
                "part of Hugging Face transformers"
            ) from error
        if model is None:
            raise InputError(f"{option}: config is invalid: {_brief(error)}; correct it") from error
        raise InputError(f"{option}: the config.json of {model} is invalid: {_brief(error)}; correct it") from error
    except OSError as error:
        if error.errno is not None:  # such as a full disk
            raise
        if model is not None and Path(model).is_dir():
            problem = f"the folder {model} cannot be loaded"
            remedy = "download the model again with tools/fetch_models.py, or correct the folder"
        else:
            problem = f"{model} is neither a folder nor a model that can be loaded from the Hugging Face Hub"
            remedy = "correct the name, or download the model with tools/fetch_models.py and give its folder"
        raise MissingFileError(f"{option}: {problem} ({_brief(error)}); {remedy}") from error


def _check_model_type(option: str, model_type: Any) -> None:
    if model_type is None:
        raise InputError(f"{option}: config has no model_type; add it, such as model_type: wavlm or qwen2")
    if model_type not in CONFIG_MAPPING:
        raise InputError(
            f"{option}: config has model_type '{model_type}', which Hugging Face transformers does not know; "
            "correct it or install a newer transformers"
        )


def _brief(error: Exception) -> str:
    """Return the first paragraph of an error message in one line, at most 500 characters, without the full stop."""
    paragraph = str(error).split("\n\n")[0].split(".\n")[0]
    return textwrap.shorten(" ".join(paragraph.split()).removesuffix("."), 500, placeholder=" ...")


def feed_forward_width(config: Any) -> int:
    """Return the width of the feed-forward layers in a Hugging Face configuration, by default 4 D."""
    return getattr(config, "intermediate_size", None) or 4 * config.hidden_size


class Pretrained(nn.Module):
    """Base class of modules that wrap a pre-trained model.

    Frozen weights are in ``bfloat16`` on a GPU and in ``float32`` on the CPU, where bfloat16 is slow. Only trained
    weights follow ``.to(dtype=...)``, which ESPnet's trainer calls with its ``train_dtype``.

    Attributes:
        frozen: Whether the pre-trained weights are frozen; adapters may be trained.
        restorable: Whether the frozen weights are left out of checkpoints, because they come from the Hugging Face Hub
            or a folder and are loaded from there again.
    """

    frozen = False
    restorable = False

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the frozen weights and of their input; if no weights are frozen, of the trained weights."""
        weights = [weight for weight in self.parameters() if weight.is_floating_point()]
        return next((weight.dtype for weight in weights if not weight.requires_grad), weights[0].dtype)

    def frozen_weights(self) -> list[nn.Parameter]:
        """Return the frozen floating-point weights."""
        weights = list(self.parameters()) if self.frozen else []
        return [weight for weight in weights if not weight.requires_grad and weight.is_floating_point()]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Pretrained:
        super()._apply(fn, recurse)
        for weight in self.frozen_weights():
            weight.data = weight.data.to(torch.bfloat16 if weight.is_cuda else torch.float32)
        return self
