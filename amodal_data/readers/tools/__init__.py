"""What annotation tools write, brought to COCO's shape: one module a tool."""

from amodal_data.readers.tools.coco_builder import Sheet, digest_of
from amodal_data.readers.tools.cvat import cvat_sheet
from amodal_data.readers.tools.datumaro import datumaro_sheet, imported_sheet, is_datumaro
from amodal_data.readers.tools.labelme import is_labelme, labelme_sheet
from amodal_data.readers.tools.mask_folder import PATTERN, mask_folder_sheet
from amodal_data.readers.tools.records import as_plain, is_records, records_as_coco
from amodal_data.readers.tools.yolo import is_yolo, yolo_sheet

__all__ = [
    "PATTERN",
    "Sheet",
    "as_plain",
    "cvat_sheet",
    "datumaro_sheet",
    "digest_of",
    "imported_sheet",
    "is_datumaro",
    "is_labelme",
    "is_records",
    "is_yolo",
    "labelme_sheet",
    "mask_folder_sheet",
    "records_as_coco",
    "yolo_sheet",
]
