"""The target cache: one HDF5 file with the exact level tables of a dataset.

docs/reference/file-formats.md specifies the layout. Only this package uses h5py.
"""

from amodal_data.cache.header import is_cache
from amodal_data.cache.read import TargetCache
from amodal_data.cache.schema import CachedImage, Images, decode, encode

__all__ = ["CachedImage", "Images", "TargetCache", "decode", "encode", "is_cache"]
