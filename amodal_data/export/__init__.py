"""Write targets in the layouts that other tools read."""

from amodal_data.export.coco import export_coco
from amodal_data.export.cocoa import export_cocoa
from amodal_data.export.convert import LAYOUTS, LOSSES, READING, Conversion, convert
from amodal_data.export.cvat import export_cvat
from amodal_data.export.datumaro import export_datumaro
from amodal_data.export.labelme import export_labelme
from amodal_data.export.records import export_records
from amodal_data.export.results import export_results
from amodal_data.export.table import TABLE, export_table
from amodal_data.export.yolo import export_yolo

__all__ = [
    "LAYOUTS",
    "LOSSES",
    "READING",
    "TABLE",
    "Conversion",
    "convert",
    "export_coco",
    "export_cocoa",
    "export_cvat",
    "export_datumaro",
    "export_labelme",
    "export_records",
    "export_results",
    "export_table",
    "export_yolo",
]
