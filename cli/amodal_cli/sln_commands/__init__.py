"""The commands of ``sln``, one file each."""
