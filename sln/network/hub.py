"""``SLN.from_pretrained``, ``save_pretrained`` and ``push_to_hub``, by huggingface_hub's mixin.

What is read and written is :mod:`sln.hub`'s matter, which knows checkpoints and runs; it is imported when asked for.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from sln.errors import MachineError

try:
    from huggingface_hub import PyTorchModelHubMixin as Mixin
except ImportError:

    class Mixin:  # type: ignore[no-redef]
        """Stands in where huggingface_hub is not installed."""

        @classmethod
        def from_pretrained(cls, *_: Any, **__: Any) -> Any:
            """Says what is missing."""
            raise MachineError("huggingface_hub is not installed", fix='pip install "amodal-data[hub]"')

        save_pretrained = push_to_hub = from_pretrained


class OnHub(nn.Module, Mixin):
    """A network that can be fetched and pushed. ``from_run``: the run it was loaded from, for its card, or None."""

    from_run: Path | None = None

    def _save_pretrained(self, save_directory: Path) -> None:
        import_module("sln.hub").save(self, save_directory)

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **how: Any) -> Any:
        return import_module("sln.hub").fetch(model_id, **how)

    def generate_model_card(self, *_: Any, **__: Any) -> Any:
        """The model card: what the network was trained on, how, and how good it is."""
        from huggingface_hub import ModelCard

        return ModelCard(import_module("sln.hub").model_card(self))
