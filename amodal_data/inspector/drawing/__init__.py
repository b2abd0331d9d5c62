"""Drawing levels: colors, panels over a photo, labels, legends, sheets."""

from amodal_data.inspector.drawing.colors import IDENTITY, level_colors, sem_dist_colors
from amodal_data.inspector.drawing.panels import as_image, draw_count_map, draw_instances, draw_levels, draw_sem_dist

__all__ = [
    "IDENTITY",
    "as_image",
    "draw_count_map",
    "draw_instances",
    "draw_levels",
    "draw_sem_dist",
    "level_colors",
    "sem_dist_colors",
]
