"""Edits of one image as values, and their history, along which undo and redo walk."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from amodal_data.errors import SelectionError

Polygons = tuple[tuple[float, ...], ...]
Event = Mapping[str, Any]  # A line of the journal: ``do`` and what it needs


@dataclass(frozen=True, slots=True)
class ImageEdits:
    """What an image becomes. Instances are named by their position among its annotations in the source.

    ``order``: positions of all instances, front to back. ``names``: position -> new name or class. ``deleted``:
    positions of instances that are removed. ``outlines``: position -> amodal polygons, each x, y, x, y, ... in pixels.
    ``unknown``: number of a region in which objects are not annotated -> its polygons. ``annotations``: how many the
    image has in the source; new instances and regions are numbered from there.
    ``ordered``: instances were moved or swapped, which states their order.
    """

    order: tuple[int, ...]
    names: Mapping[int, str] = field(default_factory=dict)
    deleted: frozenset[int] = frozenset()
    outlines: Mapping[int, Polygons] = field(default_factory=dict)
    unknown: Mapping[int, Polygons] = field(default_factory=dict)
    annotations: int = 0
    ordered: bool = False

    @property
    def added(self) -> list[int]:
        """The new instances, by their numbers."""
        return sorted(n for n in self.order if n >= self.annotations)

    def after(self, event: Event) -> "ImageEdits":
        """The edits with one more. Raises :class:`SelectionError` for an event that names no such instance or edit."""
        instance, edit = event.get("instance"), _EDITS.get(str(event.get("do")))
        if edit is None:
            raise SelectionError(f"no edit is called {event.get('do')!r:.40}")
        if edit in (ImageEdits._with_instance, ImageEdits._with_unknown):
            instance = max([self.annotations - 1, *self.order, *self.unknown]) + 1
        elif type(instance) is not int or instance not in self.order or instance in self.deleted:
            raise SelectionError(f"no instance {instance!r:.40} in this image")
        return edit(self, instance, event)

    def _with_instance(self, instance: int, event: Event) -> "ImageEdits":
        added = self._outlined(instance, event)._renamed(instance, event)._moved(instance, event)
        return replace(added, ordered=self.ordered)  # its place says nothing about the others

    def _with_unknown(self, instance: int, event: Event) -> "ImageEdits":
        return replace(self, unknown={**self.unknown, instance: _polygons(event)})

    def _swapped(self, instance: int, event: Event) -> "ImageEdits":
        other = event.get("other")
        if type(other) is not int or other == instance or other not in self.order or other in self.deleted:
            raise SelectionError(f"no other instance {other!r:.40} in this image")
        swapped = {instance: other, other: instance}
        return replace(self, order=tuple(swapped.get(n, n) for n in self.order), ordered=True)

    def _moved(self, instance: int, event: Event) -> "ImageEdits":
        before, rest = event.get("before"), [n for n in self.order if n != instance]
        if before is not None and (type(before) is not int or before not in rest):
            raise SelectionError(f"no other instance {before!r:.40} in this image")
        place = len(rest) if before is None else rest.index(before)
        return replace(self, order=(*rest[:place], instance, *rest[place:]), ordered=True)

    def _renamed(self, instance: int, event: Event) -> "ImageEdits":
        name = event.get("name")
        if not isinstance(name, str) or len(name) > _LONGEST_NAME or not name.isprintable():
            raise SelectionError(f"a name has at most {_LONGEST_NAME} printable characters")
        return replace(self, names={**self.names, instance: name.strip()})

    def _without(self, instance: int, event: Event) -> "ImageEdits":
        if instance < self.annotations:
            return replace(self, deleted=self.deleted | {instance})
        names = {n: name for n, name in self.names.items() if n != instance}
        outlines = {n: outline for n, outline in self.outlines.items() if n != instance}
        return replace(self, order=tuple(n for n in self.order if n != instance), names=names, outlines=outlines)

    def _outlined(self, instance: int, event: Event) -> "ImageEdits":
        return replace(self, outlines={**self.outlines, instance: _polygons(event)})


def _polygons(event: Event) -> Polygons:
    polygons = event.get("polygons")
    if not isinstance(polygons, list) or not polygons or not all(map(_is_polygon, polygons)):
        raise SelectionError("an outline is a list of polygons of three or more points")
    return tuple(map(tuple, polygons))


def _is_polygon(value: object) -> bool:
    """Is this x, y, x, y, ... of three or more points, all of them near some image?"""
    if not isinstance(value, list) or len(value) < 6 or len(value) % 2:
        return False
    return all(type(x) in (int, float) and -_FARTHEST <= x <= _FARTHEST for x in value)


_FARTHEST = 10**5  # Pixels that a point may lie from the corner of the image
_LONGEST_NAME = 200  # Characters of a name
_STEPS = {"undo": -1, "redo": 1}  # Along the history of an image
_EDITS = {
    "draw": ImageEdits._with_instance,
    "move": ImageEdits._moved,
    "swap": ImageEdits._swapped,
    "rename": ImageEdits._renamed,
    "delete": ImageEdits._without,
    "outline": ImageEdits._outlined,
    "unknown": ImageEdits._with_unknown,
}


class History:
    """The edits of one image, every one of which can be undone.

    ``revision``: how many events it has seen, undo and redo too. ``done``: somebody looked the image through.
    """

    def __init__(self, start: ImageEdits) -> None:
        self._states, self._place, self.revision, self.done = [start], 0, 0, False

    @property
    def current(self) -> ImageEdits:
        """The edits that are not undone, together."""
        return self._states[self._place]

    @property
    def counts(self) -> tuple[int, int]:
        """How many edits can be undone and redone."""
        return self._place, len(self._states) - 1 - self._place

    @property
    def changed(self) -> bool:
        """Does the image differ from the source?"""
        return self.current != self._states[0]

    def preview(self, event: Event) -> ImageEdits:
        """The edits after an event. Raises :class:`SelectionError` if it is impossible."""
        if event.get("do") == "done":
            return self.current
        step = _STEPS.get(str(event.get("do")))
        if step is None:
            return self.current.after(event)
        if not 0 <= self._place + step < len(self._states):
            raise SelectionError(f"nothing to {event['do']}")
        return self._states[self._place + step]

    def apply(self, event: Event) -> None:
        """Take an event. Raises as :meth:`preview`, and nothing has changed then."""
        after = self.preview(event)
        if event["do"] == "done":
            self.done = event.get("done") is not False
        elif step := _STEPS.get(event["do"]):
            self._place += step
        else:
            self._states[self._place + 1 :] = [after]
            self._place += 1
        self.revision += 1
