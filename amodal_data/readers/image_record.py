"""One image with its raw annotations, and the scene made of it: shared by the layouts in JSON."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from amodal_data.masks.rle import RLE
from amodal_data.readers.mask_decoder import EMPTY_AND_EQUAL, MaskDecoder
from amodal_data.readers.values import integer
from amodal_data.scenes.findings import Finding, Place
from amodal_data.scenes.scene import Instance, Scene

Annotation = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image with its raw annotations. ``size``: (H, W); ``source``: name of the file; ``categories``: id -> name.

    Layouts extend it by what else they need to make a scene.
    """

    image_id: int
    file_name: str
    size: tuple[int, int]
    annotations: Sequence[Annotation]
    source: str
    categories: Mapping[int, str]

    def masks(self, key: str, *, optional: bool = False, codes: Sequence[str] = EMPTY_AND_EQUAL) -> MaskDecoder:
        """A decoder that holds the mask under ``key`` of every annotation; see :meth:`MaskDecoder.add_all`."""
        decoder = MaskDecoder(self.size, Place(self.source, self.image_id), codes)
        decoder.add_all(self.annotations, key, optional=optional)
        return decoder

    def instance(self, index: int, amodal: RLE, **fields: Any) -> Instance:
        """The instance of one annotation, with its ids and class name; ``fields``: others of :class:`Instance`."""
        annotation = self.annotations[index]
        annotation_id, category = integer(annotation.get("id")), integer(annotation.get("category_id"))
        return Instance(
            amodal=amodal,
            annotation_id=-1 if annotation_id is None else annotation_id,
            region_index=index,
            category_id=1 if category is None else category,
            name=self.categories.get(-1 if category is None else category, ""),
            **fields,
        )

    def scene(self, instances: Iterable[Instance], findings: Iterable[Finding], **fields: Any) -> Scene:
        """The scene of this image; ``fields``: others of :class:`Scene`."""
        return Scene(
            image_id=self.image_id,
            file_name=self.file_name,
            size=self.size,
            instances=tuple(instances),
            findings=tuple(findings),
            source=self.source,
            **fields,
        )
