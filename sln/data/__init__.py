"""What the network is shown: photos and cached targets as batches."""

from sln.data.dataset import Batch, CachedTargets, Frame, batches, fit_in, on_canvas
from sln.data.photos import find_photos

__all__ = ["Batch", "CachedTargets", "Frame", "batches", "find_photos", "fit_in", "on_canvas"]
