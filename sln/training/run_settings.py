"""Settings that a run takes from its weights and its data: normalization and classes."""

from pathlib import Path

from amodal_data.cache.read import TargetCache
from sln.config import Category, Config, validated
from sln.errors import ConfigError
from sln.weights.files import read_settings
from sln.weights.initialization import norm_of


def with_weights(config: Config, init: str | Path | None = None) -> Config:
    """The settings with the weights to start from, ``init`` or ``train.init``, and with the same normalization.

    Raises :class:`ConfigError` if other weights are named too.
    """
    if not (weights := str(init or config.train.init)):
        return config
    values = config.model_dump()
    values["train"]["init"] = weights
    if config.encoder.norm == "auto":
        values["encoder"]["norm"] = norm_of(read_settings(weights))
    return validated(values)


def with_categories(config: Config, cache: Path) -> Config:
    """The settings with the classes of a cache, unless they name theirs or are class-agnostic (as the paper's version).

    Raises :class:`ConfigError` if the cache has instances of other classes than those named.
    """
    detector = config.detector
    if detector.version == "paper" or detector.agnostic:
        return config
    categories = TargetCache(cache).categories()
    if detector.categories:
        if unknown := sorted(categories.keys() - {category.id for category in detector.categories}):
            raise ConfigError(f"categories {unknown[:5]} are not in detector.categories", place=str(cache),
                              fix="name them too, or leave detector.categories to the cache")  # fmt: skip
        return config
    named = tuple(Category(id=category, name=name) for category, name in categories.items())
    return config.model_copy(update={"detector": detector.model_copy(update={"categories": named})})


def check_same_classes(train: Path, val: Path) -> None:
    """Raise :class:`ConfigError` if two caches use a class id for different classes."""
    first, second = TargetCache(train).categories(), TargetCache(val).categories()
    for number in first.keys() & second.keys():
        names = first[number], second[number]
        if all(names) and len(set(names)) == 2:
            problem = f"class {number} is {names[0]!r:.40} in {train.name}, but {names[1]!r:.40} here"
            fix = "build both with the same list of classes (categories, data.yaml, classes.txt or --classes)"
            raise ConfigError(problem, place=str(val), fix=fix)
