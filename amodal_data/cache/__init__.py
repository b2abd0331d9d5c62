"""The target cache: one HDF5 file that holds the exact level tables of a whole data set.

The layout is a contract, written down in docs/cache-format.md. Nobody outside this package sees h5py.
"""

from amodal_data.cache.header import CacheInfo, is_cache
from amodal_data.cache.parts import MemoryPart, Part, Range, join_parts
from amodal_data.cache.read import StoredPart, TargetCache
from amodal_data.cache.schema import CachedImage, EncodedImage, Images, decode, encode
from amodal_data.cache.shards import ShardFolder
from amodal_data.cache.write import write_cache

__all__ = [
    "CacheInfo",
    "CachedImage",
    "EncodedImage",
    "Images",
    "MemoryPart",
    "Part",
    "Range",
    "ShardFolder",
    "StoredPart",
    "TargetCache",
    "decode",
    "encode",
    "is_cache",
    "join_parts",
    "write_cache",
]
