"""Object space (+Z up, front +X) to the axes of a file format."""

import numpy as np
from jaxtyping import Float


def to_y_up(vectors: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    """(x, y, z) of glTF and OBJ is (y, z, x) of object space: +Y up, front +Z; a rotation, so winding stays."""
    return np.ascontiguousarray(vectors[:, [1, 2, 0]])
