"""Weights: in files of this package, and taken from those of others."""

from sln.weights.files import (
    SCHEMA,
    config_of,
    fill,
    load_model,
    read_checkpoint,
    read_content,
    save_atomically,
    write_safetensors,
)
from sln.weights.pretrained import load_backbone, load_pretrained

__all__ = [
    "SCHEMA",
    "config_of",
    "fill",
    "load_backbone",
    "load_model",
    "load_pretrained",
    "read_checkpoint",
    "read_content",
    "save_atomically",
    "write_safetensors",
]
