"""Start a network from weights of your own: what fits is loaded, and the rest is named with the reason."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from textwrap import shorten
from typing import Any

from torch import Tensor

from sln.config import Category, Config
from sln.errors import WeightsError
from sln.weights.files import Network, read_model, read_settings, weights_file

_PREDICTOR = "box_head.predictor."
_HEADS = ("roi_head.", "context.")
_HEAD_INPUTS = ("kind", "see_photo", "prompts")  # Settings of the head that say what its first layer sees
_COUNTER = "num_batches_tracked"
_MOST = 0.5  # Loaded share of the parameters below which the log warns
_LISTED = 12  # Lines of names in the log
_WIDTH = 100  # Longest line of names in the log, characters


@dataclass(slots=True)
class Initialization:
    """What was loaded from ``weights``, a file.

    ``layers``: loaded layers of each part of the network. ``share``: loaded share of the network's parameters.
    ``anew``: layers and classes that start anew, with the reason. ``unused``: what the file has and the network not.
    """

    weights: str
    layers: dict[str, int] = field(default_factory=dict)
    share: float = 0.0
    anew: dict[str, str] = field(default_factory=dict)
    unused: dict[str, str] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        """As the log tells it, names by reason; the run directory's ``env.json`` keeps all names."""
        yield f"start from {self.weights}: {self.share:.1%} of the parameters loaded"
        yield "loaded layers: " + ", ".join(f"{part} {count}" for part, count in self.layers.items())
        rows = [*_by_reason("starts anew", self.anew), *_by_reason("not used", self.unused)]
        yield from rows[:_LISTED]
        if len(rows) > _LISTED:
            yield f"and {len(rows) - _LISTED} lines more; env.json in the run directory names all layers"
        if self.share < _MOST:
            yield "warning: most of it starts anew; without --preset and --config a run has the settings of its weights"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)


def _by_reason(title: str, names: Mapping[str, str]) -> Iterator[str]:
    """One line a reason, with the names that it holds for."""
    for reason in dict.fromkeys(names.values()):
        rows = [name for name, value in names.items() if value == reason]
        listed = shorten(", ".join(rows), _WIDTH - len(reason), placeholder=f" ... ({len(rows)} in all)")
        yield f"{title}: {listed}: {reason}"


def initialize(model: Any, weights: str, build: Callable[[Config], Network]) -> Initialization:
    """Load what fits of a run, checkpoint or exported file into a network, layer by layer.

    A layer is loaded if all its tensors are there in the same shapes. The last layers of the box head are loaded class
    by class. Raises :class:`WeightsError` if nothing fits, before anything is changed.
    """
    stored = read_model(weights, build)
    report = Initialization(str(weights_file(weights).resolve()))
    source, target = _layers(stored.state_dict()), _layers(model.state_dict())
    state: dict[str, Tensor] = {}
    for name, tensors in target.items():
        if reason := _misfit(name, tensors, source.get(name), stored.config, model.config):
            report.anew[name] = reason
            continue
        state |= {f"{name}.{tensor}": value for tensor, value in source[name].items()}
        part = name.split(".")[0]
        report.layers[part] = report.layers.get(part, 0) + 1
    loaded = {name: tensor.numel() for name, tensor in state.items()}
    for name in [name for name in state if name.startswith(_PREDICTOR)]:
        state[name], loaded[name] = _shared_classes(name, state[name], model, stored.config, report)
    report.unused |= dict.fromkeys(sorted(source.keys() - target.keys()), "this network has no such layer")
    if not state:
        raise WeightsError(f"none of its {len(source)} layers fits this network", place=report.weights,
                           fix="leave out --preset and --config to train a network like that one")  # fmt: skip
    parameters = {name: parameter.numel() for name, parameter in model.named_parameters()}
    report.share = sum(count for name, count in loaded.items() if name in parameters) / sum(parameters.values())
    model.load_state_dict(state, strict=False)
    return report


def settings_to_start_from(weights: str) -> dict[str, Any]:
    """The settings of a network as the start of a new run: without its classes and where its weights came from."""
    config = read_settings(weights)
    values = config.model_dump(mode="json")
    values["encoder"] |= {"weights": "", "frozen": False, "norm": norm_of(config)}
    values["detector"] |= {"weights": "", "categories": []}
    values["train"] |= {"init": ""}
    return values


def norm_of(config: Config) -> str:
    """The normalization of a network's encoder, ``auto`` resolved."""
    chosen, pretrained = config.encoder.norm, bool(config.encoder.weights or config.detector.weights)
    return ("frozen" if pretrained else "batch") if chosen == "auto" else chosen


def _layers(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The tensors of each layer by their last names, counters of batches aside."""
    layers: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in state.items():
        layer, _, last = name.rpartition(".")
        if last != _COUNTER:
            layers[layer][last] = tensor
    return layers


def _misfit(
    name: str, target: Mapping[str, Tensor], source: Mapping[str, Tensor] | None, stored: Config, config: Config
) -> str:
    """Why a layer cannot be loaded, or nothing."""
    if source is None:
        return "the weights have no such layer"
    changed = [key for key in _HEAD_INPUTS if getattr(stored.head, key) != getattr(config.head, key)]
    if changed and name.startswith(_HEADS) and name.endswith("hidden.0"):
        return f"its inputs differ (head.{', head.'.join(changed)})"
    if missing := target.keys() ^ source.keys():
        return f"{', '.join(sorted(missing))} is only in one of the two"
    per_class = name.startswith(_PREDICTOR)  # rows are classes, which are matched
    shapes = [(list(source[key].shape), list(value.shape)) for key, value in target.items()]
    wrong = [(a, b) for a, b in shapes if a[per_class:] != b[per_class:]]
    return f"{wrong[0][0]} in the weights, {wrong[0][1]} here" if wrong else ""


def _shared_classes(
    name: str, tensor: Tensor, model: Any, stored: Config, report: Initialization
) -> tuple[Tensor, int]:
    """A tensor of the box head's last layers with the rows of classes that both networks have, and their elements.

    Background comes first. Rows of other classes are as in ``model``.
    """
    source, target = (_classes(config) for config in (stored, model.config))
    rows = _matches(source, target)
    pairs = [(0, 0), *((new + 1, old + 1) for new, old in enumerate(rows) if old is not None)]
    new_rows, old_rows = map(list, zip(*pairs, strict=True))
    value = model.state_dict()[name].clone()
    by_class = value.view(1 + len(target), -1, *value.shape[1:])
    by_class[new_rows] = tensor.view(1 + len(source), -1, *value.shape[1:])[old_rows].to(value)
    dropped = [category for row, category in enumerate(source) if row not in rows]
    added = [category for category, row in zip(target, rows, strict=True) if row is None]
    report.anew |= {_title(category): "the weights have no such class" for category in added}
    report.unused |= {_title(category): "the new data has no such class" for category in dropped}
    return value, by_class[new_rows].numel()


def _classes(config: Config) -> Sequence[Category]:
    """The classes of a network's box head; one without a name for all instances if it has none."""
    return config.detector.categories or (Category(id=0),)


def _matches(source: Sequence[Category], target: Sequence[Category]) -> list[int | None]:
    """The row in ``source`` of each of ``target``: by name if all have names, else by id; None = no such class."""
    named = all(category.name for category in (*source, *target))
    keys = [category.name if named else category.id for category in source]
    wanted = [category.name if named else category.id for category in target]
    return [keys.index(key) if key in keys else None for key in wanted]


def _title(category: Category) -> str:
    return f"class {category.name or category.id!r}"
