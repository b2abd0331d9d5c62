"""Write targets in the layouts that other tools read."""
