"""How good a generator is, measured against the ground truth of the props world."""
