"""No remote code: Hugging Face ``transformers`` must not run Python files of a model's folder or repository."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

LOCK = threading.RLock()


@contextmanager
def no_remote_code() -> Iterator[None]:
    """Refuse remote code in the ``with`` block, and never ask on the terminal whether to run it.

    ``trust_remote_code=False`` alone does not suffice: ``transformers`` drops it where a file of the model leads to
    another loader (``tokenizer_class: AutoModel``, parts of composite models), and then asks. All remote code is read
    by one function of ``transformers``, which raises a ``ValueError`` in the block.
    """
    from transformers import dynamic_module_utils as loader

    def refuse(*_: Any, **__: Any) -> Any:
        raise ValueError("trust_remote_code is False")

    changed = {"TIME_OUT_REMOTE_CODE": 0, "get_cached_module_file": refuse}  # 0 seconds to answer: it does not ask
    with LOCK:  # of several threads, the last one must not restore what another had changed
        before = {name: getattr(loader, name) for name in changed}
        try:
            for name, value in changed.items():
                setattr(loader, name, value)
            yield
        finally:
            for name, value in before.items():
                setattr(loader, name, value)
