"""From masks and order to visibility levels and every map of the paper (section 3)."""
