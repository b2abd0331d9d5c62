"""Device, precision, distributed processes and the torch installation."""
