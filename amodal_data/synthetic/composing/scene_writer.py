"""Write composed scenes as photos and annotations, in blocks.

A block depends on the object bank, the scene spec, the seed and its number only, so any process can make it, at any
time. Its annotations are written last: a block whose file exists is complete. When all are, they are joined.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from amodal_data.cache import CachedImage
from amodal_data.cache.parallel import run_parallel, shard_range
from amodal_data.errors import OutputExistsError, SelectionError
from amodal_data.export import export_coco
from amodal_data.export.cocoa import cocoa_annotation
from amodal_data.io.files import folder_for, refuse_existing, replaced, sole_writer
from amodal_data.io.images import read_photo
from amodal_data.layering.targets import layer_scene
from amodal_data.masks.rle import RLE
from amodal_data.masks.windows import from_crop
from amodal_data.scenes.findings import Finding, count_findings
from amodal_data.scenes.occlusion_order import from_ranks
from amodal_data.scenes.scene import Instance, Scene
from amodal_data.synthetic.composing.arrangement import Arrangement, Planner, SceneSpec, shares
from amodal_data.synthetic.composing.blending import paint
from amodal_data.synthetic.composing.cutouts import ObjectBank
from amodal_data.synthetic.photo import save_photo

BLOCK = 50  # Scenes in a block; each block meets the target shares by itself
COCOA = "COCO_amodal.json"
"""Annotations in COCOA's layout"""
FLAT = "instances.json"
"""Annotations in MVTec's amodal COCO layout, with classes"""
SCHEMA = "amodal-data/composed/1"
"""Value of ``schema`` in ``compose.json``"""
_FOLDERS = ("images", "blocks")  # Folders of a composed set
_QUALITY = 92  # JPEG quality of photos
_BATCHES = 8  # Batches of blocks that each process gets, one after the other
_CACHED_PHOTOS = 256  # Photos kept decoded


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
    seconds: float
    complete: bool

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
    """Compose ``n`` scenes: photos in ``images/``, annotations in :data:`COCOA` and :data:`FLAT`.

    Annotations have classes, depths, and where each object comes from. Scenes depend on bank, spec and ``seed``, not on
    ``jobs`` (processes), ``scheduler`` (address of a Dask cluster that sees folder and photos), ``shard`` (i, n), part
    i of n from 1, or ``resume``. Raises :class:`OutputExistsError` if the folder is in use and neither ``resume`` nor
    ``force`` is given, or if it was begun with other settings.
    """
    start, folder, spec = time.perf_counter(), Path(folder), spec or SceneSpec()
    if n < 1 or spec.objects[0] < 1 or spec.objects[1] < spec.objects[0]:
        raise SelectionError("compose at least one scene, with at least one object")
    if force and shard is not None:
        raise SelectionError(
            "force would delete the scenes of other shards", fix="leave it out, or delete the folder first"
        )
    blocks = range(-(-n // BLOCK))
    part = blocks if shard is None else shard_range(len(blocks), shard)
    _begin(folder, _settings(bank, n, seed, spec), resume=resume or shard is not None, force=force)
    with sole_writer(folder / f".lock-{part.start}", f"part of {folder.name}"):
        work = _Work(bank, spec, seed, n, folder)
        missing = [block for block in part if not _block_path(folder, block).exists()]
        on_scene(sum(min(BLOCK, n - block * BLOCK) for block in part if block not in set(missing)))
        for count in _run(work, missing, jobs, scheduler):
            on_scene(count)
    complete = all(_block_path(folder, block).exists() for block in blocks)
    if complete:
        _join(folder, blocks, bank)
    return _report(folder, part, bank, time.perf_counter() - start, complete=complete)


def _settings(bank: ObjectBank, n: int, seed: int, spec: SceneSpec) -> dict[str, Any]:
    """All that scenes depend on, the content of ``compose.json``."""
    digest = hashlib.sha256(
        repr([(d.image_id, d.annotation_id) for d in bank.cutouts] + [b.image_id for b in bank.backgrounds]).encode()
    ).hexdigest()
    return {
        "schema": SCHEMA,
        "source": dict(zip(("name", "sha256"), bank.source, strict=True)),
        "scenes": n,
        "seed": seed,
        "wishes": asdict(spec),
        "donors": len(bank.cutouts),
        "backdrops": len(bank.backgrounds),
        "stock": digest,
    }


def _begin(folder: Path, settings: dict[str, Any], *, resume: bool, force: bool) -> None:
    """Create the folder, or check that it was begun with the same settings."""
    path, content = folder / "compose.json", json.dumps(settings, indent=1) + "\n"
    if not path.exists():
        for name in _FOLDERS:  # not made by compose, so never ours to delete
            refuse_existing(folder / name, force=False)
    if path.exists() and not force:
        if not resume:
            refuse_existing(path, force=False)
        if path.read_text() != content:
            raise OutputExistsError(
                "it was begun with other settings", place=str(path), fix="choose another folder, or use --force"
            )
    for name in _FOLDERS:
        folder_for(folder / name)
    if force:
        for old in (*(folder / "blocks").glob("*.json"), *(folder / "images").glob("[0-9]" * 12 + ".jpg")):
            old.unlink()
    with replaced(path) as file:
        file.write(content)


def _block_path(folder: Path, block: int) -> Path:
    return folder / "blocks" / f"{block:06d}.json"


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """All that a block depends on; travels to other processes."""

    bank: ObjectBank
    spec: SceneSpec
    seed: int
    n: int
    folder: Path

    def make_blocks(self, blocks: Sequence[int]) -> int:
        """As :meth:`make` for several blocks."""
        return sum(map(self.make, blocks))

    def make(self, block: int) -> int:
        """Render and annotate the scenes of a block; returns their number."""
        planner = Planner(self.bank, self.spec)
        images: list[dict[str, Any]] = []
        for number in range(block * BLOCK, min(self.n, (block + 1) * BLOCK)):
            scene = planner.arrange(np.random.default_rng([self.seed, number, 0]), number)
            photo = paint(np.random.default_rng([self.seed, number, 1]), scene, self.bank, _photo)
            name = f"{number + 1:012d}.jpg"
            save_photo(self.folder / "images" / name, photo, _QUALITY)
            images.append(_annotate(scene, self.bank, number + 1, name, self.seed))
        with replaced(_block_path(self.folder, block)) as file:
            json.dump(images, file)
        return len(images)


def _run(work: _Work, blocks: Sequence[int], jobs: int, scheduler: str | None) -> Iterator[int]:
    """Make the blocks in processes or on a cluster, in few batches, because ``work`` travels with each."""
    jobs = min(jobs, max(1, len(blocks)))
    size = 1 if scheduler is not None or jobs == 1 else -(-len(blocks) // (_BATCHES * jobs))
    batches = (blocks[i : i + size] for i in range(0, len(blocks), size))
    return run_parallel(work.make_blocks, batches, jobs=jobs, scheduler=scheduler, ordered=False)


@lru_cache(_CACHED_PHOTOS)
def _photo(path: str) -> Image.Image:
    return Image.fromarray(read_photo(Path(path)))


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


def _annotate(arrangement: Arrangement, bank: ObjectBank, image_id: int, file_name: str, seed: int) -> dict[str, Any]:
    """A scene in both layouts: ``image``, ``cocoa`` (one annotation) and ``flat`` (one per instance)."""
    scene = to_scene(arrangement, bank, image_id, file_name)
    targets, background = layer_scene(scene), bank.backgrounds[arrangement.background]
    image = {"id": image_id, "file_name": file_name, "height": scene.size[0], "width": scene.size[1]}
    image |= {"license": background.license, "backdrop": background.image_id, "seed": seed}
    origins = []
    for placement in arrangement.objects:
        cutout = bank.cutouts[placement.cutout]
        origin = {"image_id": cutout.image_id, "annotation_id": cutout.annotation_id, "license": cutout.license}
        origins.append(origin | {"at_home": placement.native})
    flat = export_coco([(CachedImage(image_id, file_name, scene.size), targets)])["annotations"]
    for annotation, origin in zip(flat, origins, strict=False):  # a crowd of unknown pixels may follow
        annotation["donor"] = origin
    cocoa = cocoa_annotation(image_id, targets, np.arange(len(origins)), author="composed", polygons=False)
    for region, origin in zip(cocoa["regions"], origins, strict=True):
        region["donor"] = origin
    return {"image": image, "cocoa": cocoa, "flat": flat}


def _join(folder: Path, blocks: range, bank: ObjectBank) -> None:
    """Write the annotation files of the whole set, block by block; ids of annotations count from 1."""
    categories = [{"id": number, "name": name} for number, name in sorted(bank.names.items())]
    for name, part in ((COCOA, "cocoa"), (FLAT, "flat")):
        with replaced(folder / name) as file:
            file.write('{"images": [')
            _write_rows(file, (scene["image"] for scene in _scenes(folder, blocks)))
            file.write('], "annotations": [')
            lists = ([scene[part]] if part == "cocoa" else scene[part] for scene in _scenes(folder, blocks))
            numbered = enumerate(chain.from_iterable(lists), 1)
            _write_rows(file, (annotation | {"id": number} for number, annotation in numbered))
            file.write(f'], "categories": {json.dumps(categories)}}}\n' if part == "flat" else "]}\n")


def _write_rows(file: Any, rows: Iterator[Any]) -> None:
    for i, row in enumerate(rows):
        file.write((", " if i else "") + json.dumps(row))


def _scenes(folder: Path, blocks: Iterable[int]) -> Iterator[Any]:
    for block in blocks:
        yield from json.loads(_block_path(folder, block).read_text())


def _report(folder: Path, blocks: Sequence[int], bank: ObjectBank, seconds: float, *, complete: bool) -> ComposeReport:
    scenes, rates, pasted = 0, [], set()
    for scene in _scenes(folder, blocks):
        scenes += 1
        for region in scene["cocoa"]["regions"]:
            rates.append(region["occlude_rate"])
            if not region["donor"]["at_home"]:
                pasted.add((region["donor"]["image_id"], region["donor"]["annotation_id"]))
    return ComposeReport(folder, scenes, len(rates), len(pasted), shares(rates), bank.findings, seconds, complete)
