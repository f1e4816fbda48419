"""The paints of the props world, sRGB-encoded in [0, 1]."""

PALETTE: dict[str, tuple[float, float, float]] = {
    "red": (0.80, 0.11, 0.12),
    "orange": (0.95, 0.50, 0.08),
    "yellow": (0.95, 0.84, 0.14),
    "green": (0.16, 0.60, 0.20),
    "cyan": (0.18, 0.78, 0.82),
    "blue": (0.13, 0.25, 0.80),
    "purple": (0.48, 0.16, 0.66),
    "pink": (0.95, 0.50, 0.68),
    "brown": (0.42, 0.24, 0.12),
    "white": (0.92, 0.92, 0.93),
    "gray": (0.50, 0.51, 0.53),
    "black": (0.10, 0.10, 0.11),
    # what the other parts of a prop are painted with
    "cream": (0.90, 0.85, 0.70),
    "wood": (0.45, 0.28, 0.14),
    "iron": (0.20, 0.20, 0.23),
    "gold": (0.85, 0.68, 0.20),
    "glass": (0.80, 0.86, 0.90),
    "clay": (0.72, 0.38, 0.24),
    "rubber": (0.13, 0.13, 0.14),
    "dough": (0.85, 0.62, 0.36),
}
