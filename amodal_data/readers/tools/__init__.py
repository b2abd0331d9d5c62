"""Convert what annotation tools write to COCO: one module a tool."""
