"""``compose``: many scenes as photos and annotations, in blocks that can be made anywhere and again.

A block of scenes depends on the stock, the wishes, the seed and its number, on nothing else. Its annotations are
written last, so a block whose file is there is done. When all are, the files of the whole set are joined from them.
"""

import hashlib
import io
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from amodal_data.cache import CachedImage
from amodal_data.cache.parallel import cluster
from amodal_data.errors import OutputExistsError, SelectionError
from amodal_data.export import export_coco
from amodal_data.export.cocoa import cocoa_annotation
from amodal_data.io.files import folder_for, refuse_existing, replaced, replaced_path, sole_writer
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

BLOCK = 50
"""Scenes in a block, over which wanted shares are kept to"""
COCOA = "COCO_amodal.json"
"""The annotations in COCOA's layout"""
FLAT = "instances.json"
"""The annotations in MVTec's flat layout, with classes"""
SCHEMA = "amodal-data/composed/1"
"""What ``compose.json`` calls itself"""
_OWN = ("images", "blocks")
_QUALITY = 92
_PORTIONS = 8
"""Portions of blocks that a process gets, one after the other"""
_HELD = 256
"""Photos held decoded"""
OnScene = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class ComposeReport:
    """What was composed: scenes and instances, the share of them by occlusion rate, wall seconds. ``done``: are the
    annotation files there, or are blocks of other shards missing? ``cutouts``: objects that were pasted at all.
    """

    folder: Path
    scenes: int
    instances: int
    cutouts: int
    occlusion: Mapping[str, float]
    findings: tuple[Finding, ...]
    seconds: float
    done: bool

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready values."""
        return {
            "schema": "amodal-data/compose/1",
            "folder": str(self.folder),
            "seconds": round(self.seconds, 3),
            "scenes": self.scenes,
            "instances": self.instances,
            "donors": self.cutouts,
            "occlusion": self.occlusion,
            "done": self.done,
            "findings": count_findings(self.findings),
        }


def compose(
    stock: ObjectBank,
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
    on_scene: OnScene = lambda _: None,
) -> ComposeReport:
    """Compose ``n`` scenes: photos in ``images/``, :data:`COCOA` and :data:`FLAT` with classes, depths and provenance.

    Scenes depend on stock, wishes and ``seed``: not on ``jobs``, ``scheduler`` (address of a Dask cluster that sees
    folder and photos), ``shard`` (i, of; from 1) or ``resume``. Raises :class:`OutputExistsError` if the folder
    is in use and neither ``resume`` nor ``force`` is given, or if it was begun otherwise.
    """
    start, folder, spec = time.perf_counter(), Path(folder), spec or SceneSpec()
    if n < 1 or spec.objects[0] < 1 or spec.objects[1] < spec.objects[0]:
        raise SelectionError("at least one scene, of at least one object")
    if force and shard is not None:
        raise SelectionError(
            "force would remove what other shards made", fix="leave it out, or remove the folder first"
        )
    blocks = range(-(-n // BLOCK))
    own = blocks if shard is None else _part(blocks, shard)
    _begin(folder, _about(stock, n, seed, spec), resume=resume or shard is not None, force=force)
    with sole_writer(folder / f".lock-{own.start}", f"part of {folder.name}"):
        work = _Work(stock, spec, seed, n, folder)
        todo = [block for block in own if not _path(folder, block).exists()]
        on_scene(sum(min(BLOCK, n - block * BLOCK) for block in own if block not in set(todo)))
        for count in _run(work, todo, jobs, scheduler):
            on_scene(count)
    done = all(_path(folder, block).exists() for block in blocks)
    if done:
        _join(folder, len(blocks), stock)
    return _report(folder, list(own), stock, start, done=done)


def _part(blocks: range, shard: tuple[int, int]) -> range:
    number, of = shard
    if not 1 <= number <= of:
        raise SelectionError(f"shard {number}/{of}: count from 1 to {of}")
    return range(len(blocks) * (number - 1) // of, len(blocks) * number // of)


def _about(stock: ObjectBank, n: int, seed: int, spec: SceneSpec) -> dict[str, Any]:
    """What scenes depend on, as ``compose.json`` keeps it."""
    chosen = hashlib.sha256(
        repr([(d.image_id, d.annotation_id) for d in stock.cutouts] + [b.image_id for b in stock.backgrounds]).encode()
    ).hexdigest()
    return {
        "schema": SCHEMA,
        "source": dict(zip(("name", "sha256"), stock.source, strict=True)),
        "scenes": n,
        "seed": seed,
        "wishes": asdict(spec),
        "donors": len(stock.cutouts),
        "backdrops": len(stock.backgrounds),
        "stock": chosen,
    }


def _begin(folder: Path, about: dict[str, Any], *, resume: bool, force: bool) -> None:
    """Make the folder, or make sure that what is in it was begun in the same way."""
    path, written = folder / "compose.json", json.dumps(about, indent=1) + "\n"
    if not path.exists():
        for name in _OWN:  # somebody else's
            refuse_existing(folder / name, force=False)
    if path.exists() and not force:
        if not resume:
            refuse_existing(path, force=False)
        if path.read_text() != written:
            raise OutputExistsError(
                "it was begun with other settings", place=str(path), fix="another folder, or --force"
            )
    for name in _OWN:
        folder_for(folder / name)
    if force:
        for made in (*(folder / "blocks").glob("*.json"), *(folder / "images").glob("[0-9]" * 12 + ".jpg")):
            made.unlink()
    with replaced(path) as file:
        file.write(written)


def _path(folder: Path, block: int) -> Path:
    return folder / "blocks" / f"{block:06d}.json"


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """All that a block is made of."""

    stock: ObjectBank
    spec: SceneSpec
    seed: int
    n: int
    folder: Path

    def make(self, block: int) -> int:
        """Paint and annotate the scenes of a block; how many those are."""
        planner = Planner(self.stock, self.spec)
        images: list[dict[str, Any]] = []
        for number in range(block * BLOCK, min(self.n, (block + 1) * BLOCK)):
            scene = planner.arrange(np.random.default_rng([self.seed, number, 0]), number)
            photo = paint(np.random.default_rng([self.seed, number, 1]), scene, self.stock, _photo)
            name = f"{number + 1:012d}.jpg"
            _save(photo, self.folder / "images" / name)
            images.append(_annotated(scene, self.stock, number + 1, name, self.seed))
        with replaced(_path(self.folder, block)) as file:
            json.dump(images, file)
        return len(images)


def _run(work: _Work, blocks: Sequence[int], jobs: int, scheduler: str | None) -> Iterator[int]:
    """Make blocks anywhere; what they are made of goes along with each portion, which is why there are few."""
    if scheduler is None and (jobs == 1 or len(blocks) < 2):
        yield from map(work.make, blocks)
        return
    from joblib import Parallel, delayed  # slow to import, needed only here

    size = 1 if scheduler is not None else -(-len(blocks) // (_PORTIONS * jobs))
    run = Parallel(
        n_jobs=-1 if scheduler is not None else jobs,
        return_as="generator_unordered",
        batch_size=1,
        pre_dispatch="2*n_jobs",
    )
    with nullcontext() if scheduler is None else cluster(scheduler):
        yield from run(delayed(_made)(work, blocks[at : at + size]) for at in range(0, len(blocks), size))


def _made(work: _Work, blocks: Sequence[int]) -> int:
    return sum(map(work.make, blocks))


@lru_cache(_HELD)
def _photo(path: str) -> Image.Image:
    return Image.fromarray(read_photo(Path(path)))


def _save(photo: Any, path: Path) -> None:
    held = io.BytesIO()
    Image.fromarray(photo).save(held, "JPEG", quality=_QUALITY)
    with replaced_path(path) as temporary:
        temporary.write_bytes(held.getbuffer())


def scene_of(scene: Arrangement, stock: ObjectBank, image_id: int, file_name: str) -> Scene:
    """A composed scene as readers make them."""
    size = scene.unknown.shape
    cutouts = [stock.cutouts[one.cutout] for one in scene.objects]
    instances = tuple(
        Instance(
            from_crop(placed.mask, placed.window(), (size[0], size[1])),
            annotation_id=image_id,
            region_index=n,
            category_id=cutout.category_id,
            order=n + 1,
            name=cutout.name,
        )
        for n, (placed, cutout) in enumerate(zip(scene.objects, cutouts, strict=True))
    )
    unknown = RLE.from_mask(scene.unknown) if scene.unknown.any() else None
    order = from_ranks(np.arange(len(instances)))
    return Scene(image_id, file_name, (size[0], size[1]), instances, order, unknown=unknown)


def _annotated(scene: Arrangement, stock: ObjectBank, image_id: int, file_name: str, seed: int) -> dict[str, Any]:
    """A scene in both layouts: ``image``, ``cocoa`` (one annotation) and ``flat`` (several)."""
    own = scene_of(scene, stock, image_id, file_name)
    targets = layer_scene(own)
    behind = stock.backgrounds[scene.background]
    image = {"id": image_id, "file_name": file_name, "height": own.size[0], "width": own.size[1]}
    image |= {"license": behind.license, "backdrop": behind.image_id, "seed": seed}
    origins = []
    for placed in scene.objects:
        cutout = stock.cutouts[placed.cutout]
        found = {"image_id": cutout.image_id, "annotation_id": cutout.annotation_id, "license": cutout.license}
        origins.append(found | {"at_home": placed.native})
    flat = export_coco([(CachedImage(image_id, file_name, own.size), targets)])["annotations"]
    flat = [row | ({"donor": origins[at]} if at < len(origins) else {}) for at, row in enumerate(flat)]
    cocoa = cocoa_annotation(image_id, targets, np.arange(len(origins)), author="composed", polygons=False)
    for region, origin in zip(cocoa["regions"], origins, strict=True):
        region["donor"] = origin
    return {"image": image, "cocoa": cocoa, "flat": flat}


def _join(folder: Path, blocks: int, stock: ObjectBank) -> None:
    """The annotation files of the whole set, a block at a time."""
    categories = [{"id": number, "name": name} for number, name in sorted(stock.names.items())]
    for name, part in ((COCOA, "cocoa"), (FLAT, "flat")):
        with replaced(folder / name) as file:
            file.write('{"images": [')
            _listed(file, (scene["image"] for scene in _scenes(folder, blocks)))
            file.write('], "annotations": [')
            _listed(file, _numbered(folder, blocks, part))
            more = f', "categories": {json.dumps(categories)}' if part == "flat" else ""
            file.write(f"]{more}}}\n")


def _numbered(folder: Path, blocks: int, part: str) -> Iterator[Any]:
    """All annotations; the ids of flat ones count from 1."""
    number = 0
    for scene in _scenes(folder, blocks):
        for one in [scene["cocoa"]] if part == "cocoa" else scene["flat"]:
            number += 1
            yield one if part == "cocoa" else one | {"id": number}


def _listed(file: Any, rows: Iterator[Any]) -> None:
    for at, row in enumerate(rows):
        file.write((", " if at else "") + json.dumps(row))


def _scenes(folder: Path, blocks: int) -> Iterator[Any]:
    for block in range(blocks):
        yield from json.loads(_path(folder, block).read_text())


def _report(folder: Path, blocks: Sequence[int], stock: ObjectBank, start: float, *, done: bool) -> ComposeReport:
    scenes, rates, used = 0, [], set()
    for block in blocks:
        for scene in json.loads(_path(folder, block).read_text()):
            scenes += 1
            for region in scene["cocoa"]["regions"]:
                rates.append(region["occlude_rate"])
                if not region["donor"]["at_home"]:
                    used.add((region["donor"]["image_id"], region["donor"]["annotation_id"]))
    seconds = time.perf_counter() - start
    return ComposeReport(folder, scenes, len(rates), len(used), shares(rates), stock.findings, seconds, done)
