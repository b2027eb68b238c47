"""Arrays on their way to where a model computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


def on_device(array: NDArray[np.generic] | Tensor, device: str) -> Tensor:
    """``array`` there, in the order of the device's work. A GPU fetches it by itself from locked memory: nobody waits for what it is
    still busy with."""
    import torch

    tensor = torch.from_numpy(array) if isinstance(array, np.ndarray) else array
    if not device.startswith("cuda"):
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
