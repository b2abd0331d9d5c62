"""What the network sees: photos and cached targets as batches."""
