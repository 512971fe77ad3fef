from toast_mm.imports import quiet_imports

with quiet_imports():
    from .bands import LoadBandsFromFile, ShowBands
    from .collate import default_collate
    from .fine_grained import CUB, Flowers102, NABirds, StanfordCars, StanfordDogs
    from .loading import LoadAnnotations, LoadImageFromFile
    from .samplers import DefaultSampler, DrawnIndex, InfiniteSampler, drawing, fetch
    from .transforms import SeedAugmentation
    from .vtab import VTAB

__all__ = [
    'CUB',
    'VTAB',
    'DefaultSampler',
    'DrawnIndex',
    'Flowers102',
    'InfiniteSampler',
    'LoadAnnotations',
    'LoadBandsFromFile',
    'LoadImageFromFile',
    'NABirds',
    'SeedAugmentation',
    'ShowBands',
    'StanfordCars',
    'StanfordDogs',
    'default_collate',
    'drawing',
    'fetch',
]
