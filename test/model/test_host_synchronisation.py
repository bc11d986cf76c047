"""Host synchronisations of a training step: the rows of the tasks need none."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from tiny import batch, build_model
from torch.utils._python_dispatch import TorchDispatchMode

from harmonifuse_espnet.model.outputs import BothOutput, HeadOutput, LabelOutput, TextOutput

ATEN = torch.ops.aten
WAITING = {ATEN._local_scalar_dense.default, ATEN.nonzero.default, ATEN.masked_select.default, ATEN._unique2.default}
INDEXING = {ATEN.index.Tensor, ATEN.index_put.default, ATEN.index_put_.default}


class CountSynchronisations(TorchDispatchMode):
    """Counts operations for whose result the host would have to wait on a GPU, since it needs a size or value of it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        index_by_mask = func in INDEXING and any(index is not None and index.dtype == torch.bool for index in args[1])
        if func in WAITING or index_by_mask:
            self.found[str(func)] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("output", [TextOutput, HeadOutput, BothOutput])
@pytest.mark.parametrize("tasks", [(0, 0, 0), (1, 1, 1), (0, 1, 0)])
def test_rows_of_tasks_need_no_synchronisation(tasks: tuple[int, ...], output: type[LabelOutput]) -> None:
    """Others: the length of the spliced sequence, the target positions, and two for Hugging Face's attention mask."""
    model, data = build_model(output=output).train(), batch(tasks)
    with torch.no_grad(), CountSynchronisations() as counted:
        model(data)
    assert counted.found == {"aten._local_scalar_dense.default": 3, "aten.nonzero.default": 1}
