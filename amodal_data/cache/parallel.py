"""Encode many scenes: in this process, in several, or on a Dask cluster; results always in order.

Work travels as small batches of raw records, results as a few large arrays.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice

from amodal_data.cache.parts import MemoryPart
from amodal_data.cache.schema import CachedImage, EncodedImage, encode
from amodal_data.errors import LevelsError, SelectionError
from amodal_data.layering.targets import layer_with_findings
from amodal_data.scenes.findings import Finding, Place
from amodal_data.scenes.scene import Scene, SceneSource

Encoder = Callable[[Iterable[Iterable[Scene]]], Iterator[MemoryPart]]


def encode_scene(scene: Scene) -> tuple[EncodedImage | None, tuple[Finding, ...]]:
    """The cache rows of a scene, None if a level table cannot hold it, and all its findings."""
    try:
        targets, findings = layer_with_findings(scene)
    except LevelsError as error:
        place = Place(scene.source, scene.image_id)
        return None, (*scene.findings, Finding("image-too-complex", place, error.message))
    image = CachedImage(scene.image_id, scene.file_name, scene.size, scene.annotator)
    return encode(image, targets), (*scene.findings, *findings)


def encode_batch(scenes: Iterable[Scene]) -> MemoryPart:
    """The rows of some scenes, in order."""
    images: list[EncodedImage] = []
    findings: list[Finding] = []
    count = 0
    for scene in scenes:
        image, scene_findings = encode_scene(scene)
        findings += scene_findings
        count += 1
        if image is not None:
            images.append(image)
    return MemoryPart.from_images(images, findings, count)


def make_encoder(jobs: int = 1, scheduler: str | None = None) -> Encoder:
    """An encoder of batches: in this process, in ``jobs`` processes, or on the Dask cluster at ``scheduler``.

    Results come in order, and at most twice as many batches as workers are pending. When used, raises
    :class:`SelectionError` if ``distributed`` is missing or no scheduler answers.
    """
    if scheduler is not None:
        return partial(_encode_on_cluster, scheduler)
    return partial(map, encode_batch) if jobs == 1 else partial(_encode_in_parallel, jobs)


def _encode_in_parallel(jobs: int, batches: Iterable[Iterable[Scene]]) -> Iterator[MemoryPart]:
    from joblib import Parallel, delayed  # slow to import, needed only here

    run = Parallel(n_jobs=jobs, return_as="generator", batch_size=1, pre_dispatch="2*n_jobs", max_nbytes=None)
    yield from run(delayed(encode_batch)(batch) for batch in batches)


def _encode_on_cluster(scheduler: str, batches: Iterable[Iterable[Scene]]) -> Iterator[MemoryPart]:
    with cluster(scheduler):
        yield from _encode_in_parallel(-1, batches)


@contextmanager
def cluster(scheduler: str) -> Iterator[None]:
    """Run joblib's work on the Dask cluster at ``scheduler`` until the block ends.

    Raises :class:`SelectionError` if ``distributed`` is missing or no scheduler answers.
    """
    try:
        from distributed import Client
    except ImportError as error:
        fix = 'pip install "amodal-data[distributed]"'
        raise SelectionError("a cluster needs the package 'distributed'", fix=fix) from error
    from joblib import parallel_config

    try:
        client = Client(scheduler, timeout="30s", set_as_default=False)
    except (OSError, ValueError) as error:
        raise SelectionError(f"no Dask scheduler answers at {scheduler}: {error}") from error
    with client, parallel_config(backend="dask", client=client, wait_for_workers_timeout=60):
        yield


def in_batches(scenes: Iterable[Scene], size: int) -> Iterator[Iterable[Scene]]:
    """Consecutive scenes, ``size`` at a time; those of a file as raw records, which are small to send."""
    if isinstance(scenes, SceneSource):
        yield from scenes.batches(size)
        return
    iterator = iter(scenes)
    while batch := list(islice(iterator, size)):
        yield batch
