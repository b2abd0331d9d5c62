"""Training stages: which parts of the network are trained, by which losses."""

from typing import NamedTuple

from sln.network.sln import LOSSES, SLN


class Stage(NamedTuple):
    """``parts``: modules of the network that are trained; ``losses``: boxes of Fig. 4 whose losses count."""

    parts: tuple[str, ...]
    losses: tuple[str, ...]


STAGES = {
    "glm": Stage(("encoder", "glm"), ("glm",)),
    "rpn": Stage(("rpn", "box_head"), ("rpn",)),
    "ilm": Stage(("roi_head", "context"), ("ilm",)),
    "joint": Stage(("encoder", "glm", "rpn", "box_head", "roi_head", "context"), LOSSES),
}


def start_stage(model: SLN, stage: str) -> None:
    """Train the parts of a stage and freeze the others, which go into eval mode."""
    for name, module in model.named_children():
        module.requires_grad_(name in STAGES[stage].parts)
    if model.config.encoder.frozen:
        model.encoder.backbone.requires_grad_(False)
    set_train_mode(model, stage)


def set_train_mode(model: SLN, stage: str) -> None:
    """Train mode for the parts of a stage, eval mode for frozen ones."""
    model.train()
    for name, module in model.named_children():
        if name not in STAGES[stage].parts:
            module.eval()
    if model.config.encoder.frozen:
        model.encoder.backbone.eval()
