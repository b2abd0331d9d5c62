"""The exceptions of the network's side; all are :class:`amodal_data.errors.AmodalError`.

AmodalError
├── ConfigError        settings that are unknown, malformed or do not fit together
├── MachineError       a missing package, a device that is not there, torch and torchvision that do not fit
├── PhotoError         (of amodal_data) a photo that is missing, unreadable, huge or of another size
├── WeightsError       a checkpoint that cannot be read or does not fit the network
├── RunError           a run directory that is taken, unfinished or not one
└── TrainingError      training cannot go on: a loss that is not finite, no memory left
"""

from amodal_data.errors import AmodalError


class ConfigError(AmodalError, ValueError):
    """Settings that are unknown, malformed or do not fit together."""


class MachineError(AmodalError):
    """This machine lacks something: a package, a device, a fitting pair of torch and torchvision."""


class WeightsError(AmodalError):
    """A checkpoint that cannot be read or does not fit the network."""


class RunError(AmodalError):
    """A run directory that is taken, has nothing to resume, or is none."""


class TrainingError(AmodalError):
    """Training cannot go on."""
