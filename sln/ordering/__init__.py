"""OrderNet: predict which of two overlapping instances is in front."""
