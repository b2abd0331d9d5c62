"""The exceptions of ``sln``; all are :class:`amodal_data.errors.AmodalError`, as is its ``PhotoError``."""

from amodal_data.errors import AmodalError


class ConfigError(AmodalError, ValueError):
    """Unknown, malformed or conflicting settings."""


class MachineError(AmodalError):
    """A missing package or device, or versions of torch and torchvision that do not match."""


class WeightsError(AmodalError):
    """A checkpoint that cannot be read or does not fit the network."""


class RunError(AmodalError):
    """A run directory that is in use, unfinished or invalid."""


class TrainingError(AmodalError):
    """Training cannot continue: a loss that is not finite, or no memory left."""
