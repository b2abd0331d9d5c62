"""Results files: reader, writer and sidecar, and predictions as values."""
