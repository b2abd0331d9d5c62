"""What annotation tools write, brought to COCO's shape: one module a tool."""

from amodal_data.readers.tools.cvat import cvat_sheet
from amodal_data.readers.tools.datumaro import datumaro_sheet, imported_sheet, is_datumaro
from amodal_data.readers.tools.labelme import is_labelme, labelme_sheet
from amodal_data.readers.tools.mask_folder import PATTERN, mask_folder_sheet
from amodal_data.readers.tools.records import is_records, records_as_coco
from amodal_data.readers.tools.sheet import Sheet, digest_of

__all__ = [
    "PATTERN",
    "Sheet",
    "cvat_sheet",
    "datumaro_sheet",
    "digest_of",
    "imported_sheet",
    "is_datumaro",
    "is_labelme",
    "is_records",
    "labelme_sheet",
    "mask_folder_sheet",
    "records_as_coco",
]
