"""First passes on disk: their files, their cache key, and the pipelines that use them."""

from .cache import FirstPassCache, write
from .key import cache_key
from .pipelines import CheckedPipeline, ServedPipeline
from .records import DamagedCacheError

__all__ = [
    'CheckedPipeline',
    'DamagedCacheError',
    'FirstPassCache',
    'ServedPipeline',
    'cache_key',
    'write',
]
