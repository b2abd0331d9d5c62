"""Predictions without a network."""

import numpy as np
import pytest


def random_prediction(rng, n=5, size=(40, 50), levels=4, side=7):
    """What a network of no understanding would say: boxes that overlap, any probabilities."""
    pytest.importorskip("torch")
    from sln.inference.prediction import Prediction

    corner = rng.uniform(0, 20, (n, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(8, 25, (n, 2))], 1).astype(np.float32)
    logits = rng.normal(0, 2, (n, levels + 1, side, side))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return Prediction(size, boxes, np.sort(rng.random(n))[::-1].astype(np.float32), probabilities.astype(np.float32))
