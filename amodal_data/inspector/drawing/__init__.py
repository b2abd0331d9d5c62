"""Drawing levels: colors, panels over a photo, labels, legends, sheets."""
