"""Models of timm by name: choosing the class, building the model, renaming its weights."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from typing import TYPE_CHECKING, Any

import timm
import torch
from torch import Tensor

from toast_mm.registry import MODELS

from .steering import SteeredBackbone

if TYPE_CHECKING:
    from typing_extensions import Self


@MODELS.register_module()
class TOASTTimm(SteeredBackbone):
    """A model of timm by its name, frozen, with top-down attention steering.

    It is built as one of its subclasses, which list the arguments: :class:`TOASTTimmTokens` for
    Vision Transformers, :class:`TOASTTimmStages` for models of stages. Names of its weights are
    timm's behind ``model.``; files of timm load as they are. With ``feedback_from=None`` it
    computes what timm's ``forward_intermediates`` computes.

    Args:
        model_name: Name of the model in timm, such as ``'vit_base_patch14_dinov2'``.
        pretrained: Whether ``init_weights`` loads the weights that timm names on the Hugging Face
            Hub. Defaults to False.

    Raises:
        ValueError: There is no such model, it is of another kind, or an argument does not fit it.

    Example:
        >>> backbone = TOASTTimm('vit_small_patch14_dinov2', img_size=224, out_type='featmap')
        >>> backbone(torch.rand(1, 3, 224, 224))[0].shape
        torch.Size([1, 384, 16, 16])
        >>> backbone = TOASTTimm('convnext_tiny', out_indices=(0, 1, 2, 3))
        >>> [out.shape[1] for out in backbone(torch.rand(1, 3, 64, 64))]
        [96, 192, 384, 768]
    """

    fits: tuple[type, ...] = ()  # classes of timm, but not their subclasses

    model: Any
    model_name: str

    def __new__(cls, model_name: Any = '', *args: Any, **kwargs: Any) -> Self:
        """Make an object of the subclass that fits the model."""
        if not isinstance(model_name, str):
            raise TypeError(f'model_name={model_name!r} must be str')
        return super().__new__(cls if cls.fits else cls._class_for(model_name))

    @classmethod
    def _class_for(cls, model_name: str) -> type[Self]:
        kind = class_in_timm(model_name)
        for subclass in cls.__subclasses__():
            if kind in subclass.fits:
                return subclass
        known = [known.__name__ for subclass in cls.__subclasses__() for known in subclass.fits]
        raise ValueError(
            f'model_name={model_name!r} is a {kind.__name__}; toast_mm.TOASTTimm fits these '
            f'classes of timm: {", ".join(known)}'
        )

    def build_model(
        self, model_name: str, in_channels: int, *, pretrained: bool = False, **kwargs: Any
    ) -> None:
        """Build the model without its classifier; arguments that are None are timm's defaults.

        Its weights are loaded later, by ``init_cfg``, and not at all for inference.
        """
        if 'features_only' in kwargs:
            raise ValueError(
                f'features_only={kwargs["features_only"]} is not for {type(self).__name__}: leave '
                'it out, and say out_indices and out_type'
            )
        if 'in_chans' in kwargs:
            raise ValueError(f'in_chans={kwargs["in_chans"]}: say in_channels instead')
        self.model_name = model_name
        if pretrained:
            if self.init_cfg:
                raise ValueError(
                    f'pretrained={pretrained} takes the weights that timm names, and init_cfg='
                    f'{self.init_cfg} others: leave out one of them'
                )
            self.init_cfg = dict(type='Pretrained', checkpoint=weights_on_the_hub(model_name))
        given = {name: value for name, value in kwargs.items() if value is not None}
        self.model = timm.create_model(model_name, num_classes=0, in_chans=in_channels, **given)

    def rename_base(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights of a file of timm under the names here, without its classifier."""
        if any(name.startswith('model.') for name in weights):
            return dict(weights)
        return {
            f'model.{name}': tensor
            for name, tensor in weights.items()
            if not self.is_left_out(name)
        }

    def is_left_out(self, name: str) -> bool:
        """Whether a weight of a file of timm belongs to a part that a backbone does not have."""
        raise NotImplementedError


@cache
def class_in_timm(model_name: str) -> type:
    """The class of a model.

    Raises:
        ValueError: There is no such model.
    """
    if not timm.is_model(model_name):
        near = get_close_matches(model_name, timm.list_models(), 3)
        raise ValueError(
            f'model_name={model_name!r} is no model of timm'
            f'{"; near names: " if near else ""}{", ".join(near)}'
        )
    try:
        timm.get_pretrained_cfg(model_name)
    except RuntimeError as error:
        there = ', '.join(timm.list_pretrained(f'{model_name.partition(".")[0]}.*'))
        raise ValueError(
            f'model_name={model_name!r} has no such weights in timm; there are: {there}'
        ) from error
    with torch.device('meta'):
        return type(timm.create_model(model_name, num_classes=0))


def weights_on_the_hub(model_name: str) -> str:
    """Name of the file with the weights that timm has for a model.

    Raises:
        ValueError: There is no such model, or no weights of it on the Hugging Face Hub.
    """
    class_in_timm(model_name)
    cfg = timm.get_pretrained_cfg(model_name)
    if not cfg or not cfg.hf_hub_id:
        raise ValueError(
            f'timm names no weights of {model_name} on the Hugging Face Hub: leave out '
            "pretrained=True, and name a file by init_cfg=dict(type='Pretrained', checkpoint=...)"
        )
    return f'hf://{cfg.hf_hub_id}{f"/{cfg.hf_hub_filename}" if cfg.hf_hub_filename else ""}'


def pixel_statistics(model_name: str) -> dict[str, list[float]]:
    """Mean and standard deviation of R, G and B, from 0 to 255, that a model was trained with.

    Raises:
        ValueError: There is no such model, or timm does not know them.
    """
    class_in_timm(model_name)
    cfg = timm.get_pretrained_cfg(model_name)
    if not cfg or not cfg.has_weights:
        raise ValueError(
            f'timm does not say how images are normalised for {model_name}, of which it has no '
            'weights: say mean and std'
        )
    return dict(mean=[255 * value for value in cfg.mean], std=[255 * value for value in cfg.std])
