"""Methods of Hugging Face peft: DoRA, IA3, OFT, LoHa and others.

Their layers stand beside those of the backbone, whose weights keep their names.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping
from copy import copy, deepcopy
from typing import TYPE_CHECKING, Any

import timm.layers
import torch
from mmcv.cnn import Conv2d, Linear
from mmpretrain.models.utils import LayerNorm2d
from torch import Tensor, nn

from toast_mm.models.backbones.modes import set_modes
from toast_mm.models.layers import check_exact, replace_layers, stand_in
from toast_mm.registry import MODELS

from .base import EVERYTHING, MergeableLayer, Tuner, TuningDropout, is_linear
from .targets import find_fitting

if TYPE_CHECKING:
    from typing_extensions import Self

    from toast_mm.models.backbones.transfer import TransferBackbone

# Each of them is tested. Others need calls in the training loop, add tokens, change the base, or
# compile code (BOFT).
FITTING = (
    *('LORA', 'IA3', 'OFT', 'LOHA', 'LOKR', 'VERA', 'HRA', 'HIRA', 'FOURIERFT', 'WAVEFT'),
    *('DELORA', 'GRALORA', 'MISS', 'C3A', 'ROAD', 'PEANUT', 'LN_TUNING'),
)
# Of these, peft needs a language model, data, or a loss.
REFUSED = {
    *('inference_mode', 'target_parameters', 'trainable_token_indices', 'layer_replication'),
    *('alora_invocation_tokens', 'arrow_config', 'monteclora_config', 'kasa_config'),
    *('velora_config', 'megatron_config', 'use_bdlora', 'ensure_weight_tying', 'use_qalora'),
}
INITS = (True, False, 'gaussian', 'orthogonal')
# Warnings of peft: of what a config says of other layers, and of layer norms.
IGNORED = ('The following .*_pattern keys', 'You have passed exclude_modules', 'Unsupported layer')
KINDS = (nn.Linear, nn.Conv2d, nn.LayerNorm)
IN_TRAINING_ONLY = ('dropout', 'init_weights', 'init_lora_weights')  # no result depends on them


class PEFTLayer(MergeableLayer):
    """Mixin of a layer whose output a layer of peft computes, from the same weights."""

    added = ('peft', 'peft_config')

    peft: Any
    peft_config: Tensor  # its config as bytes of JSON, so that checkpoints hold it
    made_of: tuple[dict[str, Any], str]

    @classmethod
    def from_adapter(cls, layer: nn.Module, adapter: Any, config: dict, name: str) -> Self:
        """Make a layer of a plain one.

        Args:
            layer: The plain layer.
            adapter: The layer that :func:`make_adapter` returned for it.
            config: Config of this adapter.
            name: Name of the layer.
        """
        tuned = cls.from_layer(layer)
        base = adapter._modules.pop('base_layer')
        # No child, so that weights keep their names. With one dict, both always have the same.
        base._parameters = tuned._parameters
        vars(adapter)['base_layer'] = base
        for module in adapter.modules():
            if type(module) is nn.Dropout:
                module.__class__ = TuningDropout
        tuned.peft, tuned.made_of = adapter.train(layer.training), (config, name)
        told = {key: value for key, value in config.items() if not key.endswith(IN_TRAINING_ONLY)}
        text = list(json.dumps(told, sort_keys=True).encode())
        device = next(layer.parameters()).device
        tuned.register_buffer('peft_config', torch.tensor(text, dtype=torch.uint8, device=device))
        return tuned

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Run the layer of peft."""
        return self.peft(x, *args, **kwargs)

    def reset_tuning(self) -> None:
        """Initialise as peft does, some types by the weights of the base."""
        trained = {p: p.requires_grad for p in self.parameters()}
        adapter = make_adapter(*self.made_of, stand_in(self, self.plain))
        for parameter, requires_grad in trained.items():
            parameter.requires_grad_(requires_grad)
        del adapter.base_layer
        self.peft.load_state_dict(adapter.state_dict())

    def effective_weight(self, rows: slice = EVERYTHING) -> tuple[Tensor, Tensor | None]:
        """Weight and bias, from the outputs for the unit vectors and for zero."""
        weight = self.weight
        modes = dict.fromkeys(self.peft.modules(), False)
        with set_modes(modes), torch.autocast(weight.device.type, enabled=False):
            shift = self.peft(weight.new_zeros(1, weight.shape[1]))[0, rows]
            units = torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device)
            outputs = self.peft(units)[:, rows]
        return (outputs - shift).T, None if self.bias is None else shift

    def check_mergeable(self) -> None:
        """Check that peft can merge the layer.

        Raises:
            ValueError: It cannot, or the forward was replaced.
        """
        super().check_mergeable()
        config, name = self.made_of
        try:
            deepcopy(self.peft).merge()
        except (NotImplementedError, RuntimeError, ValueError) as error:
            raise ValueError(
                f'{config["peft_type"]} of {name} cannot be merged by peft: {error}'
            ) from error

    @torch.no_grad()
    def merge(self) -> nn.Module:
        """Let peft write the update into the parameters, and return a plain layer with them."""
        self.peft.merge()
        merged = self.peft.get_base_layer()  # with LN_TUNING another layer
        self.weight.copy_(merged.weight)
        if self.bias is not None:
            self.bias.copy_(merged.bias)
        layer = stand_in(self, self.plain)
        for name in (*self.added, 'plain', 'made_of'):
            delattr(layer, name)
        return layer

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Tensor], prefix: str, *args: Any
    ) -> None:
        own, given = self.peft_config, state_dict.get(f'{prefix}peft_config')
        if given is None or torch.equal(given.to(own), own):
            super()._load_from_state_dict(state_dict, prefix, *args)
            return
        theirs, ours = (bytes(config.tolist()).decode() for config in (given, own))
        args[-1].append(
            f'{prefix[:-1]} was tuned with {theirs}, and this backbone is built with {ours}: use '
            'the config of that training'
        )


class PEFTLinear(PEFTLayer, nn.Linear):  # type: ignore[misc]
    """Linear layer with an adapter of peft."""


class PEFTConv2d(PEFTLayer, nn.Conv2d):  # type: ignore[misc]
    """Convolution with an adapter of peft."""


class PEFTLayerNorm(PEFTLayer, nn.LayerNorm):  # type: ignore[misc]
    """Layer norm with an adapter of peft."""


class PEFTTimmLayerNorm(PEFTLayer, timm.layers.LayerNorm):  # type: ignore[misc]
    """timm's layer norm with an adapter of peft."""


class PEFTLayerNorm2d(PEFTLayer, LayerNorm2d):
    """mmpretrain's layer norm of maps with an adapter of peft."""


ADAPTED: dict[type[Any], type[PEFTLayer]] = {
    LayerNorm2d: PEFTLayerNorm2d,
    nn.LayerNorm: PEFTLayerNorm,
    timm.layers.LayerNorm: PEFTTimmLayerNorm,
    nn.Linear: PEFTLinear,
    nn.Conv2d: PEFTConv2d,
    # mmcv's classes are PyTorch's, except for empty inputs in old versions.
    Linear: PEFTLinear,
    Conv2d: PEFTConv2d,
}


def make_adapter(config: Mapping[str, Any], name: str, layer: nn.Module) -> Any:
    """Let peft make its layer from a plain one, which does not change.

    Args:
        config: Arguments of a config of peft, and its ``peft_type``.
        name: Name of the layer in the backbone, by which the config chooses layers.
        layer: The plain layer; the adapter has its parameters.

    Returns:
        The layer of peft, with a ``base_layer``; None if the config does not choose this layer.

    Raises:
        ValueError: The config is none of peft, or does not fit the layer.
    """
    import peft

    base: Any = copy(layer)
    nn.Module.__init__(base)  # without hooks, which are the layer's
    base._parameters = layer._parameters
    *parents, last = name.split('.')
    root = parent = nn.Module()
    for part in parents:
        parent.add_module(part, nn.Module())
        parent = parent.get_submodule(part)
    parent.add_module(last, base)
    try:
        made: Any = peft.get_peft_config(deepcopy(dict(config)))
        with warnings.catch_warnings():
            for message in IGNORED:
                warnings.filterwarnings('ignore', message)
            # inject_adapter_in_model does this, too, but refuses VeRA, whose layers share weights.
            peft.PEFT_TYPE_TO_TUNER_MAPPING[made.peft_type](root, made, adapter_name='default')
    except peft.NoMatchingPeftModuleError:
        return None
    except ValueError as error:
        if 'No layers types compatible with VeRA were found' in str(error):
            return None  # this way of saying it is VeRA's
        raise ValueError(f'config={dict(config)} of toast_mm.PEFT, {name}: {error}') from error
    return parent.get_submodule(last)


@MODELS.register_module()
class PEFT(Tuner):
    """A method of Hugging Face `peft <https://huggingface.co/docs/peft>`_.

    peft is an extra: ``pip install "toast_mm[peft]"``. What it adds trains. Layers keep the names
    of their weights, and share none with each other: with VeRA, each has the random matrices.

    Args:
        config: Arguments of peft's config, and which one: ``dict(peft_type='LORA', r=4,
            target_modules=['qkv'], use_dora=True)``. ``target_modules`` defaults to the layers that
            :class:`LoRA` updates. ``modules_to_save`` are layers that train as a whole.

    Raises:
        ImportError: peft is not installed.
        ValueError: The type does not fit, or something in the config.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        try:
            from peft import get_peft_config
        except ImportError as error:
            raise ImportError(
                'toast_mm.PEFT needs the package peft: pip install "toast_mm[peft]" '
                f'(here: {error})'
            ) from error
        self.config: dict[str, Any] = json.loads(json.dumps(config))  # plain dicts and lists
        if self.config.get('peft_type') not in FITTING:
            raise ValueError(
                f'peft_type={self.config.get("peft_type")!r} of toast_mm.PEFT must be one of '
                f'{", ".join(FITTING)}: others share state, add tokens, or need calls in training'
            )
        for key in self.config.keys() & REFUSED:
            raise ValueError(f'{key} of toast_mm.PEFT does not fit a plain backbone: leave it out')
        if self.config.get('init_lora_weights', True) not in INITS:
            raise ValueError(
                f'init_lora_weights={self.config["init_lora_weights"]!r} of toast_mm.PEFT must be '
                f'one of {INITS}: others need data, or change the frozen base'
            )
        if self.config.get('bias') == 'all':
            raise ValueError(
                "bias='all' of toast_mm.PEFT must be 'none', or that of the type, such as "
                "'lora_only': peft sees only the layers that it adapts"
            )
        self.modules_to_save = self.config.pop('modules_to_save', None) or []
        try:
            get_peft_config(deepcopy(self.config))
        except (TypeError, ValueError) as error:
            raise ValueError(f'config={self.config} of toast_mm.PEFT: {error}') from error

    def inject(self, backbone: TransferBackbone) -> None:
        """Give every target its adapter.

        Raises:
            ValueError: A target matches no layer, the config does not fit one, or peft cannot merge
                what would be combined with feedback.
        """
        config = {'target_modules': list(backbone.lora_targets), **self.config}
        if config['peft_type'] == 'IA3':
            config.setdefault('feedforward_modules', [])
        targets, chosen = config['target_modules'], None
        if targets != 'all-linear':  # of others, none may match nothing
            kinds = nn.Linear if config['peft_type'] == 'VERA' else KINDS
            chosen = _find(backbone, targets, kinds, 'target_modules')
            if 'target_modules' not in self.config:  # the layers that LoRA updates
                chosen = {name: layer for name, layer in chosen.items() if is_linear(layer)}
        saved = _find(backbone, self.modules_to_save, KINDS, 'modules_to_save')
        adapted: dict[nn.Module, nn.Module] = {}
        for name, layer in backbone.base_modules():
            if not isinstance(layer, KINDS) or name in saved:
                continue
            if chosen is not None and name not in chosen:
                continue  # also where a target names the modules around it
            adapter = make_adapter(config, name, layer)
            if adapter is not None:
                check_exact(layer, ADAPTED, name, 'PEFT (target_modules)')
                adapted[layer] = ADAPTED[type(layer)].from_adapter(layer, adapter, config, name)
        if backbone.topdown is not None:
            _check_beside_feedback(config, adapted.values())
        replace_layers(backbone, adapted)
        for layer in saved.values():
            layer.requires_grad_(True)


def _find(
    backbone: TransferBackbone, targets: str | list[str], kinds: Any, argument: str
) -> dict[str, Any]:
    what = 'linear layer' if kinds is nn.Linear else 'linear layer, convolution or layer norm'
    return find_fitting(backbone, targets, lambda layer: isinstance(layer, kinds), what, argument)


def _check_beside_feedback(config: Mapping[str, Any], layers: Iterable[Any]) -> None:
    """Check that a signal can pass through the layers, and that what drops acts in one pass only.

    Raises:
        ValueError: Names the layer, or the dropout.
    """
    for layer in layers:
        layer.check_mergeable()
        for key, value in config.items():
            drops = any(isinstance(module, TuningDropout) for module in layer.peft.modules())
            if key.endswith('dropout') and value and not drops:
                raise ValueError(
                    f'{key}={value} of {config["peft_type"]} would not act beside feedback, where '
                    'it belongs to the second pass: leave it out, or set feedback_from=None'
                )
