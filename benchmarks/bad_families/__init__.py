"""Generators of bad inputs for bad_inputs.py, one module per family."""

from .arguments import Arguments
from .caches import Caches
from .checkpoints import Checkpoints
from .configs import Configs
from .images import Images
from .lists import Lists
from .masks import Masks
from .task_files import TaskFiles

FAMILIES = {
    'images': Images,
    'masks': Masks,
    'lists': Lists,
    'checkpoints': Checkpoints,
    'task files': TaskFiles,
    'caches': Caches,
    'configs': Configs,
    'arguments': Arguments,
}
