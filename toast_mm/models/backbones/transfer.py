"""Which parts of a pre-trained backbone train or are frozen, and where their weights are from."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mmcv.cnn.bricks import DropPath
from mmengine.logging import print_log
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from timm.models import adapt_input_conv
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from toast_mm.checkpoint.base import load_base, split_init_cfg
from toast_mm.checkpoint.complete import before_loading
from toast_mm.checkpoint.loadable import LoadableBackbone
from toast_mm.checkpoint.pretuned import load_pretuned
from toast_mm.keys import check_reader
from toast_mm.models.layers import replace_layers
from toast_mm.models.peft.base import MergeableLayer, Tokens, TunedLayer, Tuner
from toast_mm.registry import MODELS
from toast_mm.topdown import FeedbackPath, FeedbackRoute, TopDown

from .coarse import CoarseImages

if TYPE_CHECKING:
    from typing_extensions import Self


def resolve_out_indices(out_indices: Sequence[int] | int, depth: int) -> list[int]:
    """Indices from 0 in ascending order.

    Raises:
        ValueError: There is none, or one is out of range.
    """
    indices = [out_indices] if isinstance(out_indices, int) else out_indices
    if not indices or not all(-depth <= index < depth for index in indices):
        raise ValueError(
            f'out_indices={out_indices} must name blocks of this backbone: 0..{depth - 1}, or '
            f'-{depth}..-1 counted from the end'
        )
    return sorted({index % depth for index in indices})


class TransferBackbone(LoadableBackbone, BaseBackbone):
    """Freezes a backbone, and lets only those parts train that a transfer method tunes.

    They are a top-down module, another method beside it or instead of it, or everything. It is the
    first base class of a family; the second is the plain backbone. The ``__init__`` of a family
    builds the plain backbone and then calls :meth:`prepare`, which sets all attributes below.

    Attributes:
        lora_targets: Last parts of the names of layers that LoRA updates. A family sets them.
        tokens: Layout of the tokens, if the stream consists of tokens. A family sets it.
        depth: Number L of blocks, or stages.
        out_indices: Blocks whose outputs are returned, from 0, in ascending order.
        frozen: Whether the backbone is frozen.
        tuned: Whether a method tunes the backbone itself, or its stem trains.
        left_alone: Names of the weights of the base that do not train.
        first_tuned: Lowest block with a parameter that a method tunes.
        coarse: How the images of the first pass are resized, unless it runs on the whole images.
    """

    lora_targets: tuple[str, ...] = ()
    tokens: Tokens | None = None

    depth: int
    out_indices: list[int]
    frozen: bool
    tuned: bool
    left_alone: frozenset[str]
    first_tuned: int | None
    coarse: CoarseImages | None

    init_cfg: Any

    @abstractmethod
    def fold_feedback(self, feedback: FeedbackPath, transform: Tensor) -> nn.Module:
        """Fold the channel transform, and linear layers after it, into the feedback path."""

    def prepare(
        self,
        *,
        depth: int,
        out_indices: Sequence[int] | int,
        topdown: TopDown | None = None,
        route: FeedbackRoute | None = None,
        steering_signature: Mapping[str, Any] = MappingProxyType({}),
        output_signature: Mapping[str, Any] = MappingProxyType({}),
        pretuned: str | None = None,
        frozen: bool = True,
        tuning: Mapping[str, Any] | None = None,
        tune_stem: bool | None = None,
        coarse: CoarseImages | None = None,
    ) -> None:
        """Add the parts that are tuned and freeze the rest. ``__init__`` calls it at its end.

        Args:
            depth: Number of blocks, or stages.
            out_indices: Blocks whose outputs are returned.
            topdown: The top-down module. Defaults to None, the plain backbone.
            route: Route of its signals. Defaults to None, for the plain backbone.
            steering_signature: See :attr:`steering_signature`.
            output_signature: See :attr:`output_signature`; ``out_indices`` is added to it.
            pretuned: Checkpoint of the pre-tuned module that :meth:`init_weights` loads. Defaults
                to None.
            frozen: Whether the backbone is frozen. Defaults to True.
            tuning: Config of a method that tunes the frozen backbone itself. Defaults to None.
            tune_stem: Whether the first convolution of the frozen backbone trains. Defaults to
                None: it does if the images have other than 3 bands, since it is not pre-trained for
                them.
            coarse: Images of a coarse first pass. Defaults to None, the whole images.

        Raises:
            ValueError: An output index is out of range, no output comes after the first receiver,
                there is no module for ``pretuned``, or ``tuning`` does not fit.
        """
        self.depth = depth
        self.out_indices = resolve_out_indices(out_indices, depth)
        if topdown is not None and route is not None:
            if self.out_indices[-1] < route.feedback_to:
                raise ValueError(
                    f'out_indices={self.out_indices} end below the first block that receives a '
                    f'signal, {route.feedback_to}: no output would be steered'
                )
            self.route = route
        if pretuned and topdown is None:
            raise ValueError(
                f'pretuned={pretuned!r} needs a top-down module, but feedback_from is None'
            )
        if tuning and not frozen:
            raise ValueError(
                f'frozen=False tunes everything, and tuning={dict(tuning)} what the method says: '
                'leave out one of them'
            )
        if tune_stem is not None and not frozen:
            raise ValueError(
                f'frozen=False tunes everything, the stem too: leave out tune_stem={tune_stem}'
            )
        self.added, self.tuned, self.first_tuned = frozenset(), False, None
        self.topdown = topdown
        self.coarse = coarse if topdown is not None else None
        self.steering_signature = dict(steering_signature) if topdown is not None else {}
        if self.coarse:
            self.steering_signature['first_pass_scale'] = self.coarse.scale
        self.output_signature = dict(output_signature, out_indices=self.out_indices)
        self.pretuned = pretuned
        self.frozen = frozen
        # mmengine's own loader does not name the file, and does not report missing weights.
        self.init_cfg, self.pretrained = split_init_cfg(self.init_cfg)
        self._register_load_state_dict_pre_hook(before_loading, with_module=True)
        stem = self._find_stem()
        if tune_stem and stem is None:
            raise ValueError(f'tune_stem={tune_stem}: no convolution of this backbone reads images')
        if frozen:
            for parameter in self._own_parameters():
                parameter.requires_grad_(False)
        names = [self._inject(tuning)] if tuning else []
        self.method = _describe(topdown, names, frozen)
        self._freeze_unused()
        if tuning and not any(parameter.requires_grad for parameter in self._own_parameters()):
            raise ValueError(
                f'tuning={dict(tuning)} tunes nothing that out_indices={self.out_indices} depend on'
            )
        if stem is not None and (self.in_channels != 3 if tune_stem is None else tune_stem):
            stem.requires_grad_(True)
        if frozen:
            self._note_tuned()
        for module in self.modules():
            if isinstance(module, DropPath):
                module.drop_prob = float(
                    module.drop_prob
                )  # torch.compile cannot trace numpy's floats
        self.left_alone = frozenset(
            name
            for name, parameter in self.named_parameters()
            if self.is_base(name) and not parameter.requires_grad
        )
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the mode. A frozen backbone stays in eval mode, unless a method tunes it alone.

        Raises:
            RuntimeError: A folded backbone cannot be trained.
        """
        if mode and self.folded:
            raise RuntimeError(
                'the top-down module is folded for inference and cannot be trained: train from the '
                'checkpoint before folding'
            )
        super().train(mode)
        for module in self.backbone_modules() if self.frozen else []:
            # A method that tunes the backbone alone has drop path; batch norms stay frozen.
            if not self.tuned or self.topdown is not None or isinstance(module, _BatchNorm):
                module.training = False
        return self

    def init_weights(self) -> None:
        """Initialise like the parent, then load pre-trained weights and the pre-tuned module.

        Raises:
            CheckpointError: A checkpoint does not cover the backbone, or the
                pre-tuned module is of another base, width or route.
            ValueError: The config of the run has keys of ours that its Runner does not read.
        """
        check_reader()
        # The parent's initialisers must not touch the top-down module, which has its own.
        topdown, self.topdown = self.topdown, None
        super().init_weights()
        self.topdown = topdown
        loaded: set[str] = set()
        for pretrained in self.pretrained:
            loaded |= load_base(self, pretrained)
        tuned = loaded & self.added  # a file may also hold what the method added
        for name, module in self.named_modules():
            if isinstance(module, TunedLayer) and not any(n.startswith(f'{name}.') for n in tuned):
                module.reset_tuning()  # behind the base, from whose weights some methods start
        if self.pretuned:
            load_pretuned(self, self.pretuned)
        elif self.topdown is not None and self.topdown.lite:
            print_log(
                'TOAST-Lite tunes updates of a feedback path that stays as it is, and without '
                'pretuned=... that is a random one',
                'current',
                logging.WARNING,
            )

    def backbone_modules(self) -> list[nn.Module]:
        """All modules of the backbone without the top-down module."""
        return [
            module
            for name, module in self.named_modules()
            if name and self.part_of(name) != 'topdown'
        ]

    def base_modules(self) -> list[tuple[str, Any]]:
        """Names and modules of the pre-trained backbone, which methods may tune."""
        return [
            (name, module)
            for name, module in self.named_modules()
            if name and self.part_of(name) == 'base'
        ]

    def fold(self) -> Self:
        """Fold the trained top-down module for inference: fewer operations, the same outputs.

        Low-rank updates are merged, and nothing trains any more. Folded once, it stays as it is. A
        checkpoint of a folded model is loaded by the config of the training: the backbone folds
        itself.

        Returns:
            The backbone itself, in eval mode.

        Raises:
            ValueError: There is no top-down module.
        """
        if self.topdown is None:
            raise ValueError('there is no top-down module to fold: feedback_from is None')
        if not self.folded:
            transform = self.topdown.selection.drop_channel_transform()
            self.topdown.feedback = self.fold_feedback(self.topdown.feedback, transform)
            self.requires_grad_(False)
            self.eval()
        return self

    def merge(self) -> Self:
        """Merge what a method added to layers into their weights, and remove it.

        LoRA, SSF, and the low-rank updates of TOAST-Lite. The outputs stay the same, and nothing
        trains any more.

        Returns:
            The backbone itself, in eval mode.

        Raises:
            ValueError: There is nothing to merge, or something that cannot be merged.
        """
        layers = {
            name: module
            for name, module in self.named_modules()
            if isinstance(module, MergeableLayer)
        }
        merged = {f'{name}.{part}' for name in layers for part in layers[name].added}
        lite = self.topdown is not None and self.topdown.lite
        if not self.added and not layers and not lite:
            raise ValueError('no method added anything that could be merged into the weights')
        for name in sorted(self.added):
            if not any(f'{name}.'.startswith(f'{part}.') for part in merged):
                raise ValueError(f'{name} of {self.method} cannot be merged into other weights')
        for layer in layers.values():
            layer.check_mergeable()
        replace_layers(self, {layer: layer.merge() for layer in layers.values()})
        if self.topdown is not None and lite:
            self.topdown.feedback.merge()
        self.added = frozenset()
        self.tuned = False
        self.method = _describe(self.topdown, [], self.frozen)
        self.requires_grad_(False)
        return self.eval()

    def _own_parameters(self) -> list[nn.Parameter]:
        """Parameters of the pre-trained backbone, and those that a method added to its layers."""
        return [
            parameter
            for name, parameter in self.named_parameters()
            if self.part_of(name) in ('base', 'added')
        ]

    def _inject(self, tuning: Mapping[str, Any]) -> str:
        """Inject a method, note which weights it adds, and return its name.

        Raises:
            ValueError: It is no method, or does not fit.
        """
        names = set(self.state_dict())
        if 'type' not in tuning:
            raise ValueError(
                f"tuning={dict(tuning)} names no method by type, such as type='toast_mm.LoRA'"
            )
        method = MODELS.build(tuning)
        if not isinstance(method, Tuner):
            raise ValueError(f'tuning={dict(tuning)} is no method that tunes a backbone')
        method.inject(self)
        self.added = frozenset(set(self.state_dict()) - names)
        return type(method).__name__

    def _note_tuned(self) -> None:
        """Note whether a part of the frozen backbone trains, and the first block that does."""
        tuned = {parameter for parameter in self._own_parameters() if parameter.requires_grad}
        self.tuned = bool(tuned)
        self.first_tuned = next(
            (
                block
                for block in range(self.depth)
                for module in self.block_modules(block)
                if not tuned.isdisjoint(module.parameters())
            ),
            None,
        )

    def _find_stem(self) -> Tensor | None:
        """Weight of the first convolution, which reads the images. Its name and bands are noted."""
        for name, module in self.base_modules():
            if isinstance(module, nn.Conv2d):
                self.stem_weight, self.in_channels = f'{name}.weight', module.in_channels
                return module.weight
        return None

    def fit_stem(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Fit a stem for R, G and B to other bands by timm's rule, which keeps sums of inputs."""
        name = self.stem_weight or ''
        stem = weights.get(name)
        if (
            self.in_channels == 3
            or not isinstance(stem, Tensor)
            or stem.ndim != 4
            or stem.shape[1] != 3
        ):
            return dict(weights)
        print_log(f'{name} of 3 bands is fitted to {self.in_channels} bands', 'current')
        return {**weights, name: adapt_input_conv(self.in_channels, stem)}

    def _freeze_unused(self) -> None:
        """Freeze parts that no output depends on: DDP requires gradients of all that trains."""
        last = self.out_indices[-1]
        first_pass = self.route.feedback_from if self.topdown else 0
        unused = [
            module
            for block in range(max(last + 1, first_pass), self.depth)
            for module in self.block_modules(block)
        ]
        for module in unused:
            module.requires_grad_(False)
        if self.topdown:
            for block in range(last + 1, self.route.feedback_from):
                self.topdown.feedback.freeze_signal(block)


def _describe(topdown: TopDown | None, methods: list[str], frozen: bool) -> str:
    """Describe the transfer method."""
    parts = [] if frozen else ['full fine-tuning']
    if topdown is not None:
        parts.append('TOAST-Lite' if topdown.lite else 'TOAST')
    return ' with '.join([*parts, *methods]) or 'linear probe'
