from .samplers import DefaultSampler, DrawnIndex, InfiniteSampler
from .transforms import LoadAnnotations, LoadImageFromFile, SeedAugmentation

__all__ = [
    'DefaultSampler',
    'DrawnIndex',
    'InfiniteSampler',
    'LoadAnnotations',
    'LoadImageFromFile',
    'SeedAugmentation',
]
