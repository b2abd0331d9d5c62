"""The network: encoder, layering modules, proposals, heads, their targets and losses, and the builder of all."""

from sln.network.sln import SLN, Detections, build

__all__ = ["SLN", "Detections", "build"]
