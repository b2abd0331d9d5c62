"""Many scenes in, one target cache out."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from amodal_data.cache import CachedImage, CacheInfo, EncodedImage, encode, refuse_existing, write_cache
from amodal_data.cache.stamp import FORMAT_VERSION
from amodal_data.errors import LevelsError
from amodal_data.findings import Finding, Place, count_findings
from amodal_data.levels import layer_with_findings
from amodal_data.scene import Scene, Scenes

__all__ = ["BuildReport", "build_targets", "encode_scene"]


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build did: images and instances written, what was odd, wall seconds."""

    path: Path
    images: int
    instances: int
    findings: tuple[Finding, ...]
    seconds: float

    @property
    def errors(self) -> int:
        """Number of findings of severity error: something was left out or altered."""
        return sum(finding.severity == "error" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready values; findings as counts per code."""
        return {
            "schema": "amodal-data/build-targets/1",
            "path": str(self.path),
            "images": self.images,
            "instances": self.instances,
            "findings": count_findings(self.findings),
            "seconds": round(self.seconds, 3),
        }


def build_targets(
    scenes: Iterable[Scene],
    path: str | Path,
    *,
    force: bool = False,
    dry_run: bool = False,
    on_image: Callable[[], None] = lambda: None,
) -> BuildReport:
    """Layer every scene and write the cache.

    Images keep their order; one that a level table cannot hold is left out with a finding.
    ``on_image`` is called after each. ``dry_run`` does all but write. The same scenes give the same
    bytes.

    Raises :class:`amodal_data.errors.OutputExistsError` before any work if ``path`` exists and ``force``
    is not given, :class:`amodal_data.errors.CacheError` if it cannot be written.
    """
    path = Path(path)
    refuse_existing(path, force=force or dry_run)
    start = time.perf_counter()
    findings = list(scenes.file_findings) if isinstance(scenes, Scenes) else []
    images = list(_encoded(scenes, findings, on_image))
    if not dry_run:
        write_cache(path, images, findings, _info(scenes), force=force)
    instances = sum(len(image.columns["instances"]) for image in images)
    return BuildReport(path, len(images), instances, tuple(findings), time.perf_counter() - start)


def _encoded(scenes: Iterable[Scene], findings: list[Finding], on_image: Callable[[], None]) -> Iterator[EncodedImage]:
    for scene in scenes:
        image, found = encode_scene(scene)
        findings += found
        if image is not None:
            yield image
        on_image()


def encode_scene(scene: Scene) -> tuple[EncodedImage | None, tuple[Finding, ...]]:
    """The cache rows of one scene, None if a level table cannot hold it, and all findings about it."""
    try:
        targets, found = layer_with_findings(scene)
    except LevelsError as error:
        place = Place(scene.source, scene.image_id)
        return None, (*scene.findings, Finding("image-too-complex", place, error.message))
    image = CachedImage(scene.image_id, scene.file_name, scene.size, scene.annotator)
    return encode(image, targets), (*scene.findings, *found)


def _info(scenes: Iterable[Scene]) -> CacheInfo:
    """Where the scenes come from, as far as they tell."""
    origin = scenes if isinstance(scenes, Scenes) else None
    return CacheInfo(
        format_version=FORMAT_VERSION,
        package_version=version("amodal-data"),
        dataset=origin.dataset if origin else "custom",
        sources=origin.sources if origin else (),
        settings=origin.settings if origin else {},
        rasteriser=f"pycocotools {version('pycocotools')}",
    )
