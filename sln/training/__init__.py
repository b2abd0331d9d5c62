"""Training: from a cache and photos to a run directory."""
