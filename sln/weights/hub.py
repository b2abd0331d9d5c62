"""Networks on the Hugging Face Hub: ``from_pretrained``, ``save_pretrained``, ``push_to_hub`` and the model card.

A repository holds weights and settings in one safetensors file.
"""

from pathlib import Path
from typing import Any, Self

from torch import nn

from sln.config import Config
from sln.errors import MachineError
from sln.runs import Run
from sln.weights.files import read_model, write_safetensors

try:
    from huggingface_hub import PyTorchModelHubMixin as Mixin
except ImportError:

    class Mixin:  # type: ignore[no-redef]
        """Raises where huggingface_hub is not installed."""

        @classmethod
        def from_pretrained(cls, *_: Any, **__: Any) -> Any:
            """Raise :class:`MachineError`."""
            raise MachineError("huggingface_hub is not installed", fix='pip install "amodal-data[hub]"')

        save_pretrained = push_to_hub = from_pretrained


_WEIGHTS = "model.safetensors"
_CARD = Path(__file__).with_name("card.md")
_DOWNLOAD_OPTIONS = ("revision", "cache_dir", "force_download", "local_files_only", "token")


class HubModel(nn.Module, Mixin):
    """A network that can be loaded from the Hub and pushed to it.

    ``from_run``: the run directory it was loaded from, for its card; None if unknown.
    """

    config: Config
    from_run: Path | None = None

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """The network of a configuration, freshly initialized."""
        raise NotImplementedError

    def _save_pretrained(self, save_directory: Path) -> None:
        write_safetensors(self, save_directory / _WEIGHTS)

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **options: Any) -> Self:
        """From a run, a checkpoint, a folder written by ``save_pretrained``, or a repository of that name."""
        local = Path(model_id)
        if local.exists():
            saved = local / _WEIGHTS
            model = read_model(saved if saved.exists() else local, cls.from_config)
            model.from_run = local if (local / "config.toml").exists() else None
            return model
        from huggingface_hub import hf_hub_download

        chosen = {key: options[key] for key in _DOWNLOAD_OPTIONS if key in options}
        return read_model(hf_hub_download(model_id, _WEIGHTS, **chosen), cls.from_config)

    def generate_model_card(self, *_: Any, **__: Any) -> Any:
        """The model card: training data, settings and scores."""
        from huggingface_hub import ModelCard

        return ModelCard(model_card(self))


def model_card(model: HubModel) -> str:
    """Model card in Markdown: data, settings and scores of the run, as far as known."""
    config, run = model.config, model.from_run
    names = [category.name or str(category.id) for category in config.detector.categories]
    backbone = config.encoder.backbone or f"ResNet-{config.encoder.depth}"
    network = f"{backbone}, detector {config.detector.version}, input {config.data.size} px, "
    network += f"{config.layering.levels} levels, {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters"
    return _CARD.read_text("utf-8").format(
        network=network,
        classes=", ".join(names) if any(names) else "one, class-agnostic",
        training="unknown run" if run is None else _training(Run(run)),
    )


def _training(run: Run) -> str:
    """One sentence on a run: steps, data, best validation AP, package versions."""
    facts, rows, steps = run.environment(), run.metrics(), run.config().train.steps
    data = f"{Path(str(facts.get('train'))).name} (SHA-256 {str(facts.get('train_digest'))[:16]})"
    versions = ", ".join(f"{name} {version}" for name, version in dict(facts.get("packages", {})).items())
    scored = [row["ap"] for row in rows if row.get("ap") is not None]
    score = f"best amodal AP {max(scored):.3f} on {Path(str(facts.get('val'))).name}" if scored else "not validated"
    return f"{rows[-1]['step'] if rows else 0} of {steps} steps on {data}; {score}; {versions}"
