"""Compose scenes as photos and annotations, in blocks.

A block depends on the object bank, the photos, the scene spec, the seed and its number only, so any process can make
it, at any time. Its annotations are written last. When all blocks are complete, they are joined.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_data.cache import CachedImage
from amodal_data.cache.parallel import run_parallel, shard_range
from amodal_data.errors import PhotoError, SelectionError
from amodal_data.export.coco import export_coco
from amodal_data.export.cocoa import cocoa_annotation
from amodal_data.io.files import folder_for
from amodal_data.layering.targets import layer_scene
from amodal_data.masks.rle import RLE
from amodal_data.masks.windows import from_crop
from amodal_data.scenes.findings import Finding, Place, count_findings
from amodal_data.scenes.occlusion_order import from_ranks
from amodal_data.scenes.scene import Instance, Scene
from amodal_data.synthetic.composing.arrangement import Arrangement, Planner, SceneSpec, shares
from amodal_data.synthetic.composing.blending import paint
from amodal_data.synthetic.composing.cutouts import ObjectBank
from amodal_data.synthetic.composing.photo_folders import DecodedPhotos
from amodal_data.synthetic.composing.set_folder import BLOCK, SetFolder
from amodal_data.synthetic.photo import save_photo

SCHEMA = "amodal-data/composed/1"
"""Value of ``schema`` in ``compose.json``"""
_QUALITY = 92  # JPEG quality of photos
_BATCHES = 8  # Batches of blocks that each process gets, one after the other
_KEPT_BYTES = 2**28  # Bytes of photos that a process keeps decoded
MAX_SCENES = 10_000_000
"""Most scenes of a set"""
MAX_OBJECTS = 100
"""Most objects to paste into a scene"""


@dataclass(frozen=True, slots=True)
class ComposeReport:
    """What was composed: numbers of scenes and instances, wall seconds.

    ``cutouts``: number of different objects that were pasted. ``occlusion``: share of instances by occlusion rate.
    ``complete``: True = the annotation files are written, False = blocks of other shards are missing.
    """

    folder: Path
    scenes: int
    instances: int
    cutouts: int
    occlusion: Mapping[str, float]
    findings: tuple[Finding, ...]
    seconds: float = 0.0
    complete: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready values."""
        run = {"schema": "amodal-data/compose/1", "folder": str(self.folder), "seconds": round(self.seconds, 3)}
        counts: dict[str, Any] = {"scenes": self.scenes, "instances": self.instances, "donors": self.cutouts}
        counts |= {"occlusion": self.occlusion, "done": self.complete, "findings": count_findings(self.findings)}
        return run | counts


def compose(
    bank: ObjectBank,
    folder: str | Path,
    n: int,
    *,
    seed: int = 0,
    spec: SceneSpec | None = None,
    jobs: int = 1,
    scheduler: str | None = None,
    shard: tuple[int, int] | None = None,
    resume: bool = False,
    force: bool = False,
    on_scene: Callable[[int], None] = lambda _: None,
) -> ComposeReport:
    """Compose ``n`` scenes: photos in ``images/``, annotations in ``COCO_amodal.json`` and ``instances.json``.

    Annotations have classes, depths, and where each object comes from. Scenes depend on bank, spec and ``seed``, not on
    ``jobs`` (processes), ``scheduler`` (address of a Dask cluster that sees folder and photos), ``shard`` (i, n), part
    i of n from 1, or ``resume``. Raises :class:`OutputExistsError` if the folder is in use and neither ``resume`` nor
    ``force`` is given, or if it was begun with other settings. A photo that cannot be decoded is a finding, and other
    photos are used.
    """
    start, spec = time.perf_counter(), spec or SceneSpec()
    _check_request(n, spec, shard, force=force)
    blocks = range(-(-n // BLOCK))
    part = blocks if shard is None else shard_range(len(blocks), shard)
    name = "all" if shard is None else f"{shard[0]}-of-{shard[1]}"
    settings = json.dumps(_settings(bank, n, seed, spec), indent=1) + "\n"
    target = SetFolder(folder_for(Path(folder)), n, settings)
    with target.lock_part(name):
        with target.lock():
            target.begin(name, resume=resume or shard is not None, force=force)
        missing = target.missing(part)
        on_scene(sum(len(target.scenes_of(block)) for block in part if block not in set(missing)))
        for count in _run(_Work(bank, spec, seed, target), missing, jobs, scheduler):
            on_scene(count)
        with target.lock():
            report = _report(target, part, bank)
            complete = target.join(bank.names, _provenance(bank))
        return replace(report, complete=complete, seconds=time.perf_counter() - start)


def _check_request(n: int, spec: SceneSpec, shard: tuple[int, int] | None, *, force: bool) -> None:
    if not 1 <= n <= MAX_SCENES or not 1 <= spec.objects[0] <= spec.objects[1] <= MAX_OBJECTS:
        limits = f"1 to {MAX_SCENES:,} scenes of 1 to {MAX_OBJECTS} objects"
        raise SelectionError(f"compose makes {limits}, found {n:,} of {spec.objects[0]:,} to {spec.objects[1]:,}")
    if force and shard is not None:
        raise SelectionError(
            "force would delete the scenes of other shards", fix="leave it out, or delete the folder first"
        )


def _sources(bank: ObjectBank) -> dict[str, Any]:
    """``source``, or ``sources`` if there are several, and the lists of excluded photos, if any."""
    rows = [asdict(source) for source in bank.sources]
    sources = {"source": rows[0]} if len(rows) == 1 else {"sources": rows}
    return sources | ({"exclude": [asdict(source) for source in bank.exclude]} if bank.exclude else {})


def _settings(bank: ObjectBank, n: int, seed: int, spec: SceneSpec) -> dict[str, Any]:
    """All that scenes depend on, the content of ``compose.json``."""
    stock: list[Any] = [(d.image_id, d.annotation_id) for d in bank.cutouts] + [b.image_id for b in bank.backgrounds]
    if len(bank.sources) > 1:
        stock += [item.source for item in bank.items()]
    digest = hashlib.sha256(repr(stock).encode()).hexdigest()
    return {
        "schema": SCHEMA,
        **_sources(bank),
        "scenes": n,
        "seed": seed,
        "wishes": {key: value for key, value in asdict(spec).items() if (key, value) != ("scale", "photo")},
        "donors": len(bank.cutouts),
        "backdrops": len(bank.backgrounds),
        "stock": digest,
    }


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """All that a block depends on, and where it goes; travels to other processes."""

    bank: ObjectBank
    spec: SceneSpec
    seed: int
    target: SetFolder

    def make_blocks(self, blocks: Sequence[int]) -> int:
        """As :meth:`make` for several blocks."""
        return sum(map(self.make, blocks))

    def make(self, block: int) -> int:
        """Render and annotate the scenes of a block; returns their number."""
        planner, problems = Planner(self.bank, self.spec), dict[str, str]()
        images: list[dict[str, Any]] = []
        for number in self.target.scenes_of(block):
            scene, photo = self._render(planner, number, problems)
            path = self.target.photo_path(number)
            save_photo(path, photo, _QUALITY)
            images.append(_annotate(scene, self.bank, number + 1, path, self.seed))
        self.target.write_block(block, images, list(problems.items()))
        return len(images)

    def _render(self, planner: Planner, number: int, problems: dict[str, str]) -> tuple[Arrangement, NDArray[np.uint8]]:
        """Scene ``number`` and its photo, uint8 [H, W, 3].

        If a photo cannot be decoded, its scene is arranged anew without it; ``problems`` gets its path and the reason.
        """
        attempt: tuple[int, ...] = ()
        while True:
            counts = planner.counts.copy()
            scene = planner.arrange(np.random.default_rng([self.seed, number, 0, *attempt]), number)
            try:
                return scene, paint(np.random.default_rng([self.seed, number, 1, *attempt]), scene, self.bank, _PHOTOS)
            except PhotoError as error:
                if error.place in planner.left_out:
                    raise
                problems[error.place] = error.message
                planner.leave_out(error.place)
                planner.counts, attempt = counts, (len(planner.left_out),)


def _run(work: _Work, blocks: Sequence[int], jobs: int, scheduler: str | None) -> Iterator[int]:
    """Make the blocks in processes or on a cluster, in few batches, because ``work`` travels with each."""
    jobs = min(jobs, max(1, len(blocks)))
    size = 1 if scheduler is not None or jobs == 1 else -(-len(blocks) // (_BATCHES * jobs))
    batches = (blocks[i : i + size] for i in range(0, len(blocks), size))
    return run_parallel(work.make_blocks, batches, jobs=jobs, scheduler=scheduler, ordered=False)


_PHOTOS = DecodedPhotos(_KEPT_BYTES)


def _photo_findings(target: SetFolder, blocks: Sequence[int], bank: ObjectBank) -> list[Finding]:
    """A finding for each photo that could not be decoded while some blocks were made."""
    problems = {path: message for block in blocks for path, message in (target.read_block(block) or ((), ()))[1]}
    photos = {str(item.photo): item for item in bank.items() if str(item.photo) in problems}
    places = ((path, item, Place(bank.sources[item.source].name, item.image_id)) for path, item in photos.items())
    return [Finding("photo-unusable", place, f"{item.photo.name}: {problems[path]}") for path, item, place in places]


def _provenance(bank: ObjectBank) -> dict[str, Any]:
    """The lists ``sources`` and ``licenses`` that images and instances refer to; none of a single source."""
    if len(bank.sources) == 1:
        return {}
    sources = [{"id": n, **asdict(source)} for n, source in enumerate(bank.sources, 1)]
    return {"sources": sources, "licenses": list(bank.licenses)}


def to_scene(arrangement: Arrangement, bank: ObjectBank, image_id: int, file_name: str) -> Scene:
    """A composed scene as a :class:`Scene`."""
    height, width = arrangement.unknown.shape
    instances = []
    for n, placement in enumerate(arrangement.objects):
        cutout, mask = bank.cutouts[placement.cutout], from_crop(placement.mask, placement.window(), (height, width))
        instances.append(Instance(mask, annotation_id=image_id, region_index=n, category_id=cutout.category_id,
                                  order=n + 1, name=cutout.name))  # fmt: skip
    unknown = RLE.from_mask(arrangement.unknown) if arrangement.unknown.any() else None
    order = from_ranks(np.arange(len(instances)))
    return Scene(image_id, file_name, (height, width), tuple(instances), order, unknown=unknown)


def _annotate(arrangement: Arrangement, bank: ObjectBank, image_id: int, photo: Path, seed: int) -> dict[str, Any]:
    """A scene in both layouts: ``image``, ``cocoa`` (one annotation) and ``flat`` (one per instance)."""
    file_name = photo.name
    scene = to_scene(arrangement, bank, image_id, file_name)
    targets, background = layer_scene(scene), bank.backgrounds[arrangement.background]
    image = {"id": image_id, "file_name": file_name, "height": scene.size[0], "width": scene.size[1]}
    image |= {"license": background.license, "backdrop": background.image_id, "seed": seed}
    image |= {"bytes": photo.stat().st_size}
    cutouts = [bank.cutouts[placement.cutout] for placement in arrangement.objects]
    origins: list[dict[str, Any]] = []
    for placement, cutout in zip(arrangement.objects, cutouts, strict=True):
        origin = {"image_id": cutout.image_id, "annotation_id": cutout.annotation_id, "license": cutout.license}
        origins.append(origin | {"at_home": placement.native})
    if len(bank.sources) > 1:
        image |= {"source": background.source + 1, "backdrop_name": background.file_name}
        image |= {"licenses": sorted({background.license, *(cutout.license for cutout in cutouts)} - {0})}
        for row, cutout in zip(origins, cutouts, strict=True):
            row |= {"source": cutout.source + 1, "file_name": cutout.file_name}
    flat = export_coco([(CachedImage(image_id, file_name, scene.size), targets)])["annotations"]
    for annotation, origin in zip(flat, origins, strict=False):  # a crowd of unknown pixels may follow
        annotation["donor"] = origin
    cocoa = cocoa_annotation(image_id, targets, np.arange(len(origins)), author="composed", polygons=False)
    for region, origin in zip(cocoa["regions"], origins, strict=True):
        region["donor"] = origin
    return {"image": image, "cocoa": cocoa, "flat": flat}


def _report(target: SetFolder, blocks: Sequence[int], bank: ObjectBank) -> ComposeReport:
    """The report on some blocks before they are joined."""
    scenes, rates, pasted = 0, [], set()
    for annotation in target.annotations(blocks):
        scenes += 1
        for region in annotation["regions"]:
            rates.append(region["occlude_rate"])
            if not region["donor"]["at_home"]:
                donor = region["donor"]
                pasted.add((donor.get("source"), donor["image_id"], donor["annotation_id"]))
    findings = (*bank.findings, *_photo_findings(target, blocks, bank))
    return ComposeReport(target.path, scenes, len(rates), len(pasted), shares(rates), findings)
