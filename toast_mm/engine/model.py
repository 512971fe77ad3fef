"""Finding parts of a model that a runner holds."""

from typing import Any

from mmengine.model import BaseTTAModel, is_model_wrapper


def unwrap(model: Any) -> Any:
    """The model without DDP's and test-time augmentation's wrappers."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def steered_backbone(model: Any) -> Any:
    """The ``SteeredBackbone`` of a classifier or segmentor if it has a top-down module, or None."""
    backbone = getattr(unwrap(model), 'backbone', None)
    return backbone if getattr(backbone, 'topdown', None) is not None else None
