"""Finding parts of a model that a runner holds."""

import copy
from typing import Any

from mmengine.config import Config
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.registry import MODELS, DefaultScope
from torch import nn


def unwrap(model: Any) -> Any:
    """The model without DDP's and test-time augmentation's wrappers."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def build_model(cfg: Config) -> nn.Module:
    """The model of a config, in the scope of the config.

    mmpretrain's configs have the preprocessor beside the model as well as in it.
    """
    model = copy.deepcopy(cfg.model)
    if cfg.get('data_preprocessor') is not None:
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        return MODELS.build(model)


def steered_backbone(model: Any) -> Any:
    """The ``SteeredBackbone`` of a classifier or segmentor if it has a top-down module, or None."""
    backbone = getattr(unwrap(model), 'backbone', None)
    return backbone if getattr(backbone, 'topdown', None) is not None else None
