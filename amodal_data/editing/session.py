"""One run of the editor: the images of a source, their histories, and the journal that holds every edit."""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from amodal_data.cache import CachedImage
from amodal_data.editing.edits import Event, History, ImageEdits
from amodal_data.editing.journal import Journal
from amodal_data.editing.rows import Start, outlines_of, traced_outline
from amodal_data.editing.source import EditableSource
from amodal_data.editing.visible_masks import overlapping
from amodal_data.errors import LayoutError, LevelsError, SelectionError
from amodal_data.inspector.page import about_block, code_texts, page_frame
from amodal_data.inspector.page_data import PageImage, image_document, index_row, thumbnail
from amodal_data.layering.targets import layer_with_findings
from amodal_data.masks.contours import outline_parts
from amodal_data.masks.rle import RLE, merge
from amodal_data.masks.windows import subtract
from amodal_data.readers.discovery import PhotoFinder

Proposer = Callable[[tuple[int, int], Sequence[RLE]], list[RLE]]  # Size and visible masks of an image -> whole objects
_TOLERANCE = 1.0  # Pixels that a proposed outline may be off, so that it has few points to bend
_STARTS = 8  # Images kept as the source has them
_FIELDS = ("do", "instance", "before", "other", "name", "done", "polygons")  # Of an event; a journal holds no others


class StaleError(SelectionError):
    """An edit of an image that has changed since the page read it."""


def replay(source: EditableSource, events: Iterable[Mapping[str, Any]], place: str) -> dict[int, History]:
    """The histories of the images that some events edit, by index. Raises :class:`LayoutError` for one that fails."""
    indices = {image_id: index for index, image_id in enumerate(source.scenes.image_ids)}
    histories: dict[int, History] = {}
    for number, event in enumerate(events, 2):
        try:
            index = indices[event["image"]]
            if index not in histories:
                histories[index] = History(source.start(index).edits)
            histories[index].apply(event)
        except (SelectionError, LevelsError, KeyError, TypeError) as error:
            problem = error.message if isinstance(error, SelectionError) else f"{error!r:.80}"
            raise LayoutError(f"an edit cannot be repeated: {problem}", place=f"{place}, line {number}") from error
    return histories


class EditingSession:
    """The images of ``source`` with the edits of ``journal``; every method may be called from any thread.

    photo_folders: where the photos are. propose: completes visible masks, None = nothing does. ``rows``: the page's
    list of images, those that can be layered.
    """

    def __init__(
        self,
        source: EditableSource,
        journal: Journal,
        photo_folders: Sequence[Path] = (),
        on_image: Callable[[int], None] = lambda _: None,
        propose: Proposer | None = None,
    ) -> None:
        self.source, self._journal, self._propose = source, journal, propose
        self._lock = threading.Lock()
        self._photos = PhotoFinder(photo_folders, source.scenes.file_names)
        self._start = lru_cache(_STARTS)(source.start)
        self._histories = replay(source, journal.lines.events, str(journal.path))
        self.rows: list[dict[str, Any]] = []
        self._indices: list[int] = []  # index of the scene of each row
        for index in range(len(source.scenes)):
            on_image(1)
            try:
                image = self._image(index, self._start(index))
            except LevelsError:
                continue
            self._indices.append(index)
            self.rows.append(self._row(len(self.rows), image))

    def page(self) -> tuple[str, str]:
        """The page and its content security policy."""
        assets = files("amodal_data.editing") / "assets"
        script, style = ((assets / name).read_text("utf-8") for name in ("edit.js", "edit.css"))
        sources = "img-src 'self' data:; connect-src 'self'"
        head, tail, policy = page_frame(f"Edit {self.source.path.name}", script=script, style=style, sources=sources)
        with self._lock:
            facts = {"images": len(self.rows), "journal": self._journal.path.name}
            return head + self._about(facts) + tail, policy

    def _about(self, facts: dict[str, Any]) -> str:
        classes = list(dict.fromkeys(self.source.scenes.categories.values()))
        names = classes or sorted({name for row in self.rows for name in row["classes"]} - {""})
        fields = {"sort": "findings", "names": names, "classes_only": bool(classes)}
        fields["unknown"] = bool(self.source.layout.unknown)
        fields["proposes"] = self._propose is not None
        return about_block(f"Edit {self.source.path.name}", self.rows, facts, **fields)

    def thumbnail(self, place: int) -> str:
        """The thumbnail of image number ``place`` of the page as a data URI. Raises IndexError."""
        return thumbnail(self._page_image(self._indices[place]))

    def document(self, place: int) -> dict[str, Any]:
        """What the page shows of its image number ``place``, with the photo. Raises IndexError."""
        with self._lock:
            return self._document(place, photo=True)

    def outline(self, place: int, position: int) -> dict[str, Any]:
        """The outline of an instance as the source has it; see :func:`traced_outline`. Raises IndexError too."""
        with self._lock:
            return {"polygons": traced_outline(self._start(self._indices[place]), position)}

    def edit(self, place: int, revision: int, event: Event) -> dict[str, Any]:
        """Take an edit of image number ``place``, save it, and tell what the image has become.

        Raises :class:`StaleError` unless ``revision`` is that of the image, :class:`SelectionError` for an impossible
        edit, :class:`LevelsError` if no level table can hold the result, and OSError if it cannot be saved. The image
        is then as before.
        """
        event = {key: event[key] for key in _FIELDS if key in event}
        with self._lock:
            index, start, history = self._at(place, revision)
            before, image = history.current, self._image(index, start, history.preview(event))
            self._journal.append({"image": start.scene.image_id, **event})
            history.apply(event)
            self._histories[index] = history
            self.rows[place] = self._row(place, image)
            document = self._document(place, photo=False, image=image)
            if (before.outlines, before.deleted) == (history.current.outlines, history.current.deleted):
                del document["outlines"]  # most of the bytes, and the page has them
            return document

    def preview(self, place: int, revision: int, event: Event) -> dict[str, Any]:
        """What the page would draw after an edit, which is not kept. Raises as :meth:`edit`."""
        with self._lock:
            index, start, history = self._at(place, revision)
            return {"document": image_document(self._image(index, start, history.preview(event)), photo=False)}

    def _at(self, place: int, revision: int) -> tuple[int, Start, History]:
        """The index of an image of the page, how it began, and its history, if it is at this revision."""
        index = self._indices[place]
        start = self._start(index)
        history = self._histories.get(index) or History(start.edits)
        if revision != history.revision:
            raise StaleError("this image has changed meanwhile")
        return index, start, history

    def propose(self, place: int, instance: int) -> dict[str, Any]:
        """Outlines of the whole object whose visible part is that of an instance, and the pixels that they add.

        Raises :class:`SelectionError` if nothing of it is visible, or nothing completes masks.
        """
        image = self._page_image(self._indices[place])
        assert image.truth is not None
        visible = dict(zip(image.truth.region_index.tolist(), image.truth.rles("modal"), strict=True))
        if self._propose is None or instance not in visible or not visible[instance].area:
            raise SelectionError("nothing of this instance is visible" if self._propose else "nothing completes masks")
        shown = [n for n, mask in visible.items() if mask.area]
        whole = self._propose(image.truth.size, [visible[n] for n in shown])[shown.index(instance)]
        added = subtract(whole, visible[instance]).area
        return {"polygons": outline_parts(merge([whole, visible[instance]]), _TOLERANCE), "added": added}

    def _edits(self, index: int, start: Start) -> ImageEdits:
        history = self._histories.get(index)
        return start.edits if history is None else history.current

    def _page_image(self, index: int) -> PageImage:
        with self._lock:
            return self._image(index, self._start(index))

    def _image(self, index: int, start: Start, edits: ImageEdits | None = None) -> PageImage:
        """An image with its edits, or others, as the reader and the layering give it; positions are the source's."""
        edits = edits or self._edits(index, start)
        image = CachedImage(start.scene.image_id, start.scene.file_name, start.scene.size)
        photo = self._photos.find(image.file_name)
        if edits == start.edits:
            return PageImage(image, start.targets, photo=photo, findings=start.findings)
        scene, positions = self.source.read(start, edits)
        targets, findings = layer_with_findings(scene)
        targets.region_index[:] = [positions[n] for n in targets.region_index]
        moved = {-1: -1, **dict(enumerate(positions))}
        findings = tuple(
            replace(finding, place=replace(finding.place, region=moved[finding.place.region]))
            for finding in (*scene.findings, *findings)
            if finding.code != "order-unsorted"  # the file is written with its list in order
        )
        return PageImage(image, targets, photo=photo, findings=findings)

    def _row(self, place: int, image: PageImage) -> dict[str, Any]:
        history = self._histories.get(self._indices[place])
        progress = {"edits": history.counts[0], "done": history.done} if history else {"edits": 0, "done": False}
        return index_row(image, f"thumbnail/{place}") | progress

    def _document(self, place: int, *, photo: bool, image: PageImage | None = None) -> dict[str, Any]:
        index = self._indices[place]
        start = self._start(index)
        image = image or self._image(index, start)
        history = self._histories.get(index) or History(start.edits)
        assert image.truth is not None
        row, (undo, redo) = self.rows[place], history.counts
        positions = image.truth.region_index.tolist()
        outlines = outlines_of(start, history.current, self.source.layout)
        return {
            "document": image_document(image, photo=photo),
            "row": row,
            "codes": code_texts(finding[0] for finding in row["findings"]),
            "stack": [positions.index(n) for n in history.current.order if n in positions],
            "positions": positions,
            "outlines": [outlines[n] for n in positions],
            "overlaps": overlapping(image.truth).tolist(),
            "revision": history.revision,
            "undo": undo,
            "redo": redo,
        }
