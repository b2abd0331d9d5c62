"""What the network is shown: photos and cached targets as batches."""

from sln.data.photos import find_photos
from sln.data.samples import Batch, CachedTargets, Frame, batches, fit_in, on_canvas

__all__ = ["Batch", "CachedTargets", "Frame", "batches", "find_photos", "fit_in", "on_canvas"]
