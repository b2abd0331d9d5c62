"""Files, images, arrays and the environment they are read in."""
