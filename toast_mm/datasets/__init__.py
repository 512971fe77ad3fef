from .fine_grained import CUB, Flowers102, NABirds, StanfordCars, StanfordDogs
from .samplers import DefaultSampler, DrawnIndex, InfiniteSampler
from .transforms import LoadAnnotations, LoadImageFromFile, SeedAugmentation

__all__ = [
    'CUB',
    'DefaultSampler',
    'DrawnIndex',
    'Flowers102',
    'InfiniteSampler',
    'LoadAnnotations',
    'LoadImageFromFile',
    'NABirds',
    'SeedAugmentation',
    'StanfordCars',
    'StanfordDogs',
]
