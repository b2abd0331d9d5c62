"""The commands of ``amodal-data``, one file each."""
