"""What annotation tools write, brought to COCO's shape: one module a tool."""

from amodal_data.readers.tools.coco_builder import CocoBuilder, digest_of
from amodal_data.readers.tools.cvat import cvat_as_coco
from amodal_data.readers.tools.datumaro import datumaro_as_coco, import_as_coco, is_datumaro
from amodal_data.readers.tools.labelme import is_labelme, labelme_as_coco
from amodal_data.readers.tools.mask_folder import PATTERN, masks_as_coco
from amodal_data.readers.tools.records import as_plain, is_records, records_as_coco
from amodal_data.readers.tools.yolo import is_yolo, yolo_as_coco

__all__ = [
    "PATTERN",
    "CocoBuilder",
    "as_plain",
    "cvat_as_coco",
    "datumaro_as_coco",
    "digest_of",
    "import_as_coco",
    "is_datumaro",
    "is_labelme",
    "is_records",
    "is_yolo",
    "labelme_as_coco",
    "masks_as_coco",
    "records_as_coco",
    "yolo_as_coco",
]
