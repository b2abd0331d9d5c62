"""Encode many scenes: in this process, in several, or on a Dask cluster; results always in order.

Work travels as small batches of raw records, results as a few large arrays.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import islice
from typing import TypeVar

from amodal_data.cache.schema import CachedImage, EncodedImage, MemoryPart, encode
from amodal_data.errors import LevelsError, SelectionError
from amodal_data.layering.targets import layer_with_findings
from amodal_data.scenes.findings import Finding, Place
from amodal_data.scenes.scene import Scene, SceneSource

_ADDRESS = re.compile(r"((tcp|tls|wss?)://)?[^\s/]+:\d{1,5}|inproc://[^\s/]+/\d+/\d+")
Task = TypeVar("Task")
Result = TypeVar("Result")
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
    encoded = list(map(encode_scene, scenes))
    findings = [finding for _, scene_findings in encoded for finding in scene_findings]
    return MemoryPart.from_images([image for image, _ in encoded if image is not None], findings, len(encoded))


def make_encoder(jobs: int = 1, scheduler: str | None = None) -> Encoder:
    """An encoder of batches: in this process, in ``jobs`` processes, or on the Dask cluster at ``scheduler``.

    Results come in order, and at most twice as many batches as workers are pending. When used, raises
    :class:`SelectionError` if ``distributed`` is missing or no scheduler answers.
    """
    return partial(run_parallel, encode_batch, jobs=jobs, scheduler=scheduler)


def run_parallel(
    function: Callable[[Task], Result], tasks: Iterable[Task], *, jobs: int, scheduler: str | None, ordered: bool = True
) -> Iterator[Result]:
    """The results of ``function`` for each task, where :func:`make_encoder` says; in any order unless ``ordered``."""
    if scheduler is None and jobs == 1:
        yield from map(function, tasks)
        return
    from joblib import Parallel, delayed  # slow to import, needed only here

    kind, workers = "generator" if ordered else "generator_unordered", jobs if scheduler is None else -1
    run = Parallel(n_jobs=workers, return_as=kind, batch_size=1, pre_dispatch="2*n_jobs", max_nbytes=None)
    with nullcontext() if scheduler is None else _cluster(scheduler):
        yield from run(delayed(function)(task) for task in tasks)


@contextmanager
def _cluster(scheduler: str) -> Iterator[None]:
    """Run joblib's work on the Dask cluster at ``scheduler`` until the block ends."""
    if not _ADDRESS.fullmatch(scheduler):  # with such an address, distributed's threads keep the process alive
        raise SelectionError(f"{scheduler!r:.80} is no address of a Dask scheduler", fix="use tcp://HOST:PORT")
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


def shard_range(total: int, shard: tuple[int, int]) -> range:
    """Part i of n of ``total`` scenes or blocks, for a shard (i, n) from 1. Raises :class:`SelectionError`."""
    number, shards = shard
    if not 1 <= number <= shards:
        raise SelectionError(f"shard {number}/{shards}: count from 1 to {shards}")
    return range(total * (number - 1) // shards, total * number // shards)


def in_batches(scenes: Iterable[Scene], size: int) -> Iterator[Iterable[Scene]]:
    """Consecutive scenes, ``size`` at a time; those of a file as raw records, which are small to send."""
    if isinstance(scenes, SceneSource):
        yield from scenes.batches(size)
        return
    iterator = iter(scenes)
    while batch := list(islice(iterator, size)):
        yield batch
