"""Images and cached targets as batches."""
