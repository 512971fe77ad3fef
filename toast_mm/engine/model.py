"""Building models from configs, and finding parts of a model."""

import copy
from typing import Any

from mmengine.config import Config
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.registry import MODELS, DefaultScope, init_default_scope
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import _load_checkpoint_to_model
from torch import nn

from toast_mm.checkpoint import CheckpointError
from toast_mm.checkpoint.coverage import other_types
from toast_mm.checkpoint.finite import check_finite
from toast_mm.engine.config import ConfigError


def unwrap(model: Any) -> Any:
    """Remove the wrappers of DDP and of test-time augmentation from a model."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def build_model(cfg: Config) -> nn.Module:
    """Build the model of a config in the scope of the config.

    In mmpretrain's configs the preprocessor may be outside ``model``.

    Raises:
        ConfigError: The config has no model.
    """
    if not isinstance(cfg.get('model'), dict):
        raise ConfigError(f'{cfg.filename or "the config"} has no model')
    model = copy.deepcopy(cfg.model)
    if cfg.get('data_preprocessor') is not None:
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        return MODELS.build(model)


def load_model(cfg: Config, checkpoint: str) -> nn.Module:
    """Build the model of a config and load all its weights, on the CPU and in eval mode.

    The scope of the config becomes the default one.

    Raises:
        CheckpointError: Weights are missing, unexpected, infinite or NaN.
    """
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    model = build_model(cfg)
    load_weights(model, CheckpointLoader.load_checkpoint(checkpoint, 'cpu'), checkpoint)
    return model.eval()


def load_weights(model: nn.Module, checkpoint: dict, name: str) -> None:
    """Load all weights of a model.

    Args:
        model: The model, on the CPU.
        checkpoint: Content of a checkpoint or task file.
        name: Name of the file, for errors.

    Raises:
        CheckpointError: Weights are missing, unexpected, infinite or NaN.
    """
    given = checkpoint.get('state_dict', checkpoint)
    try:
        if wrong := other_types(model.state_dict(), given):
            raise CheckpointError(f'of another type: {", ".join(wrong[:3])}')
        _load_checkpoint_to_model(model, checkpoint, strict=True)
    except RuntimeError as error:
        raise CheckpointError(
            f'checkpoint {name} does not fit the config: {" ".join(str(error).split())}'
        ) from error
    check_finite(dict(model.named_parameters()), f'checkpoint {name}')


def backbone_of(model: Any, asker: str) -> Any:
    """The backbone of a model.

    Args:
        model: The model, wrapped or not.
        asker: Name of the caller, for the error.

    Raises:
        ValueError: The model has none.
    """
    model = unwrap(model)
    if getattr(model, 'backbone', None) is None:
        raise ValueError(f'{asker}: {type(model).__name__} has no backbone')
    return model.backbone


def steered_backbone(model: Any) -> Any:
    """The ``SteeredBackbone`` of a classifier or segmentor if it has a top-down module, or None."""
    backbone = getattr(unwrap(model), 'backbone', None)
    return backbone if getattr(backbone, 'topdown', None) is not None else None
