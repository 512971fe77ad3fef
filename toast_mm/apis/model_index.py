"""Makes the jobs of this package known to ``mmpretrain.list_models`` and ``get_model`` by name.

Example:
    >>> import toast_mm.apis
    >>> from mmpretrain import get_model, list_models
    >>> names = list_models('toast-last*')
    >>> model = get_model('vit-1m_1xb128-75e_tinyin100-64x64', pretrained=True)
"""

from pathlib import Path

from mmpretrain.apis.model import ModelHub

MIM = Path(__file__).parents[1] / '.mim'

ModelHub.register_model_index(MIM / 'model-index.yml', config_prefix=MIM)
