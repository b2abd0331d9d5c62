"""Run-length masks: encoding, windows, boxes, polygons and contours."""
