"""Types that go through several rooms under one name, and why some of them say no more."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
"""Embeddings, shape (n, d): a row each, of length 1. One vector of shape (d,) is one too."""
Values = NDArray[np.float64]
"""Figures of many things, shape (n,)."""
Numbers = NDArray[np.int64]
"""Numbers of rows, groups or domains, shape (n,)."""

# Any: what stands under a name is told by the schema that the object follows, which its readers know; a union of all that JSON can
# hold (pydantic's JsonValue) would have each of them ask again
JsonObject = dict[str, Any]
JsonMapping = Mapping[str, Any]
"""The same where it is only read."""
