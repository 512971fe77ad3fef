"""First passes on disk: their files, the key by which a run finds them, and what serves them."""

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
