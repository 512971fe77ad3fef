"""Makes the jobs of this package known to mmpretrain and to mmseg's inferencer by name.

Example:
    >>> import toast_mm.apis
    >>> from mmpretrain import get_model, list_models
    >>> names = list_models('toast-last*')
    >>> model = get_model('vit-1m_1xb128-75e_tinyin100-64x64', pretrained=True)
    >>> inferencer = MMSegInferencer('toast-vit-b16_upernet_8xb2-160k_ade20k-512x512', 'mine.pth')
"""

from __future__ import annotations

from pathlib import Path

from mmengine.config import Config
from mmengine.infer.infer import BaseInferencer
from mmengine.registry import init_default_scope
from mmpretrain.apis.model import ModelHub

from toast_mm.registry import SCOPE

MIM = Path(__file__).parents[1] / '.mim'

ModelHub.register_model_index(MIM / 'model-index.yml', config_prefix=MIM)
OWN = {
    name for name, job in ModelHub._models_dict.items() if Path(job.filepath).is_relative_to(MIM)
}
_load_model_from_metafile = BaseInferencer._load_model_from_metafile


def _load_by_name(self: BaseInferencer, model: str) -> tuple[Config, str | None]:
    """Find a config and its weights as mmengine does, and first among the jobs of this package.

    mmengine looks only in the package of the scope, requires weights of every model, and builds the
    model in the scope of the inferencer. Jobs of this package have the scope of mmseg.

    Args:
        self: The inferencer.
        model: Name of a job, or ``'toast_mm::folder/name.py'``.
    """
    name = Path(model).stem if model.startswith(f'{SCOPE}::') else model
    if name.lower() not in OWN:
        return _load_model_from_metafile(self, model)
    job = ModelHub.get(name)
    init_default_scope(job.config.default_scope)
    return job.config, job.weights


# The public way to add names is an index in the package of the scope.
BaseInferencer._load_model_from_metafile = _load_by_name
