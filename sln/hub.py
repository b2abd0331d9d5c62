"""What of a network goes to the Hugging Face Hub: weights and settings in one safetensors file, and a model card."""

from pathlib import Path
from typing import Any

from sln.network.sln import SLN
from sln.runs import Run
from sln.weights.files import load_model, write_safetensors

_WEIGHTS = "model.safetensors"
_HOW = ("revision", "cache_dir", "force_download", "local_files_only", "token")


def save(model: SLN, folder: Path) -> None:
    """Write the weights and settings of a network into a folder."""
    write_safetensors(model, folder / _WEIGHTS)


def fetch(name: str, **how: Any) -> SLN:
    """A network by the name of its repository, or from a run, a checkpoint or a folder by ``save_pretrained``."""
    here = Path(name)
    if here.exists():
        saved = here / _WEIGHTS
        model = load_model(saved if saved.exists() else here)
        model.from_run = here if (here / "config.toml").exists() else None
        return model
    from huggingface_hub import hf_hub_download

    return load_model(hf_hub_download(name, _WEIGHTS, **{key: how[key] for key in _HOW if key in how}))


def model_card(model: SLN) -> str:
    """The README of a repository of weights, in Markdown: data, settings and figures of the run, as far as known."""
    config, run = model.config, model.from_run
    names = [category.name or str(category.id) for category in config.detector.categories]
    body = config.encoder.backbone or f"ResNet-{config.encoder.depth}"
    size = f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters"
    return _CARD.format(
        network=f"{body}, detector {config.detector.version}, input {config.data.size} px, "
        f"{config.layering.levels} levels, {size}",
        classes=", ".join(names) if any(names) else "one, class-agnostic",
        training="the run it comes from is not known" if run is None else _training(Run(run)),
    )


_CARD = """---
library_name: sln
tags: [amodal-instance-segmentation, occlusion, sem-dist-map]
---

# Semantics Layering Network

Amodal masks, visibility levels and occlusion order of the objects in a photo, by sem-dist maps
(Zhang et al., Learning Semantics-aware Distance Map with Semantics Layering Network, ACM MM 2019).

```python
import sln

model = sln.Predictor(sln.SLN.from_pretrained("OWNER/NAME"))
found = model.predict("photo.jpg")
found.amodal(), found.modal(), found.order()
```

Network: {network}.

Classes: {classes}.

Training: {training}.
"""


def _training(run: Run) -> str:
    """What a run says of itself: steps, data, versions, and its best AP where it was validated."""
    about, rows, steps = run.environment(), run.metrics(), run.config().train.steps
    done = rows[-1]["step"] if rows else 0
    data = f"{Path(str(about.get('train'))).name} (SHA-256 {str(about.get('train_digest'))[:16]})"
    versions = ", ".join(f"{name} {version}" for name, version in dict(about.get("packages", {})).items())
    scored = [row["ap"] for row in rows if row.get("ap") is not None]
    score = f"best amodal AP {max(scored):.3f} on {Path(str(about.get('val'))).name}" if scored else "not validated"
    return f"{done} of {steps} steps on {data}; {score}; {versions}"
