"""Every setting of the network and its training: one sentence each, checked together, saved with the model.

Order of precedence: preset, then file, then environment (``SLN_TRAIN__STEPS=500``), then ``--set
train.steps=500``, then a command's own option. Never imports torch.
"""

from sln.config.loading import commented, load_config, validated
from sln.config.sections import (
    Category,
    CompletionConfig,
    Config,
    DataConfig,
    DetectorConfig,
    EncoderConfig,
    HeadConfig,
    LossConfig,
    Metric,
    PredictConfig,
    ProposalConfig,
    TrainConfig,
    stage_settings,
    steps_of,
)

__all__ = [
    "Category",
    "CompletionConfig",
    "Config",
    "DataConfig",
    "DetectorConfig",
    "EncoderConfig",
    "HeadConfig",
    "LossConfig",
    "Metric",
    "PredictConfig",
    "ProposalConfig",
    "TrainConfig",
    "commented",
    "load_config",
    "stage_settings",
    "steps_of",
    "validated",
]
