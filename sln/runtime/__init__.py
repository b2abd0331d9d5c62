"""Devices, processes and installed packages."""
