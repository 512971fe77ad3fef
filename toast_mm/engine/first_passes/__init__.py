"""First passes on disk: their files, their cache key, and the pipelines that use them."""

from .augmentation import TrackedPipeline, size_of_sample, whole_images
from .cache import FirstPassCache, write
from .key import cache_key
from .parts import PartsOfFirstPass
from .pipelines import CheckedPipeline, ServedPipeline
from .records import DamagedCacheError

__all__ = [
    'CheckedPipeline',
    'DamagedCacheError',
    'FirstPassCache',
    'PartsOfFirstPass',
    'ServedPipeline',
    'TrackedPipeline',
    'cache_key',
    'size_of_sample',
    'whole_images',
    'write',
]
