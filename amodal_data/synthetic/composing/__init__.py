"""Compose amodal scenes with exact ground truth: cut-outs of whole objects pasted into other photos."""
