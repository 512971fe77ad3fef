"""The two-pass loop that every TOAST backbone goes through."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mmcv.cnn.bricks import DropPath
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from toast_mm.registry import MODELS
from toast_mm.topdown import FeedbackPath, FeedbackRoute, TopDown

from .first_pass import FirstPass
from .pretuned import load_pretuned
from .trace import Trace
from .tuning import MergeableLayer, TunedLayer, TuningDropout
from .weights import demand_coverage, load_base, split_init_cfg


@contextmanager
def set_modes(modes: Mapping[nn.Module, bool]) -> Iterator[None]:
    """Put single modules (without their children) into training mode, or not, for a while."""
    changed = [module for module, training in modes.items() if module.training is not training]
    for module in changed:
        module.training = not module.training
    try:
        yield
    finally:
        for module in changed:
            module.training = not module.training


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


def _describe(topdown: TopDown | None, tuning: Mapping[str, Any] | None, frozen: bool) -> str:
    """The transfer method in words."""
    parts = [] if frozen else ['full fine-tuning']
    if topdown is not None:
        lite = any('.updates.' in name for name in topdown.state_dict())
        parts.append('TOAST-Lite' if lite else 'TOAST')
    if tuning:
        parts.append(str(tuning['type']).rpartition('.')[2])
    return ' with '.join(parts) or 'a head alone'


class SteeredBackbone(BaseBackbone):
    """Goes before an mmpretrain backbone: embed, first pass, select, feed back, second pass.

    A backbone says how to :meth:`embed`, :meth:`run_block` with an optional
    signal, :meth:`read_out` and :meth:`format_output`; the order is written
    here. With ``topdown`` None it computes exactly what its parent computes.

    Nothing is detached (paper sec. 3). The first pass needs no graph unless
    something in it trains, and autograd then records none.
    """

    depth: int  # number of blocks, or stages
    topdown: TopDown | None
    route: FeedbackRoute
    frozen: bool
    method: str  # the transfer method in words
    init_cfg: Any
    pretrained: list[dict]
    pretuned: str | None
    selection_form: dict[str, bool]  # how the signal is selected and enters, for a pre-tuned file
    out_indices: list[int]
    _trace: Trace | None = None
    _given: FirstPass | None = None
    added: frozenset[str] = frozenset()  # names of what a tuning method added

    # Modules that no pre-trained checkpoint has: they train and need no covering.
    new_modules: tuple[str, ...] = ()
    # Parameters that are resized to the image: they do not tell one base from another.
    resized_parameters: tuple[str, ...] = ()
    # Layers that LoRA updates by default: last parts of their names.
    lora_targets: tuple[str, ...] = ()

    @abstractmethod
    def embed(self, image: Tensor) -> tuple[Tensor, Any]:
        """Image to the stream that enters block 0, and what format_output needs to know."""

    @abstractmethod
    def run_block(self, block: int, stream: Tensor, signal: Tensor | None = None) -> Tensor:
        """Run one block, with the top-down signal if it receives one."""

    @abstractmethod
    def read_out(self, stream: Tensor) -> tuple[Tensor, Tensor]:
        """Stream after ``route.feedback_from`` blocks to what the selection needs, channels last.

        Returns:
            What the mask is made of, and what it selects from.
        """

    @abstractmethod
    def format_output(self, block: int, stream: Tensor, context: Any) -> Tensor:
        """Stream after a block to the backbone's output of that block."""

    @abstractmethod
    def signal_ratio(self, block: int, stream: Tensor, signal: Tensor) -> float:
        """How strong the signal is beside what it is added to: ratio of their norms."""

    @abstractmethod
    def block_modules(self, block: int) -> list[nn.Module]:
        """The modules that nothing but this block and what follows it needs."""

    @abstractmethod
    def fold_feedback(self, feedback: FeedbackPath, transform: Tensor) -> nn.Module:
        """Fold the channel transform, and what follows linearly, into the feedback path."""

    def steer(
        self,
        topdown: TopDown | None,
        pretuned: str | None,
        frozen: bool,
        tuning: Mapping[str, Any] | None = None,
    ) -> None:
        """Add what is tuned and freeze the rest; called at the end of ``__init__``.

        Args:
            topdown: The module for :attr:`route`, or None for the plain
                backbone.
            pretuned: Checkpoint of the pre-tuned module that
                :meth:`init_weights` loads.
            frozen: Whether the backbone is frozen.
            tuning: Config of a method that tunes the frozen backbone itself.

        Raises:
            ValueError: No output comes after the first receiver, there is
                no module for ``pretuned``, or ``tuning`` does not fit.
        """
        if topdown is not None and self.out_indices[-1] < self.route.feedback_to:
            raise ValueError(
                f'out_indices={self.out_indices} end below the first block that receives a signal, '
                f'{self.route.feedback_to}: no output would be steered'
            )
        if pretuned and topdown is None:
            raise ValueError(
                f'pretuned={pretuned!r} needs a top-down module, but feedback_from is None'
            )
        if tuning and not frozen:
            raise ValueError(
                f'frozen=False tunes everything, and tuning={dict(tuning)} what the method says: '
                'leave out one of them'
            )
        self.topdown = topdown
        self.pretuned = pretuned
        self.frozen = frozen
        # mmengine's own loader says neither which file it is nor that anything is missing.
        self.init_cfg, self.pretrained = split_init_cfg(self.init_cfg)
        self._register_load_state_dict_pre_hook(demand_coverage, with_module=True)
        if frozen:
            for name, parameter in self.named_parameters():
                if name.split('.')[0] not in ('topdown', *self.new_modules):
                    parameter.requires_grad_(False)
        self.tuned = bool(tuning)
        self.method = _describe(topdown, tuning, frozen)
        if tuning:
            names = set(self.state_dict())
            MODELS.build(tuning).attach(self)
            self.added = frozenset(set(self.state_dict()) - names)
        self._freeze_unused()
        if tuning and not any(
            parameter.requires_grad
            for name, parameter in self.named_parameters()
            if name.split('.')[0] not in ('topdown', *self.new_modules)
        ):
            raise ValueError(
                f'tuning={dict(tuning)} tunes nothing that out_indices={self.out_indices} depend on'
            )
        for module in self.modules():
            if isinstance(module, DropPath):
                module.drop_prob = float(module.drop_prob)  # numpy's, in which no graph can be
        self.train(self.training)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Image ``(B, 3, H, W)`` to one output per index of ``out_indices``."""
        given, self._given = self._given, None
        if given and len(image) != len(next(iter(given.streams.values()))):
            raise ValueError(
                f'the first pass that was provided is not that of these {len(image)} images'
            )
        if self.topdown is None:
            if given:
                return tuple(given.streams[block] for block in self.out_indices)
            return self._run_plain(image)

        route, trace = self.route, self._trace
        self._trace = None  # now: no record goes on if this forward fails
        bottom_up = self._bottom_up()
        with set_modes(dict.fromkeys(bottom_up, False)):
            first = given or self._run_first_pass(image, keep_all=trace is not None)
            shared = first.streams.get(route.feedback_to - 1)
            shared = self.embed(image)[0] if shared is None else shared
            z, features = self.read_out(first.streams[route.feedback_from - 1])

        signals = self.topdown(z, features, first.sizes)
        if trace:
            trace.first, trace.z, trace.signals = first, z, signals

        streams = {
            block: first.streams[block] for block in route.shared if block in self.out_indices
        }
        kinds = (DropPath, TuningDropout)
        drops = {module: self.training for module in bottom_up if isinstance(module, kinds)}
        with set_modes(drops):
            stream = shared
            for block in route.second_pass[: self.out_indices[-1] + 1 - route.feedback_to]:
                entering, signal = stream, signals.get(block)
                stream = self.run_block(block, entering, signal)
                if trace and signal is not None:
                    trace.inputs[block], trace.outputs[block] = entering, stream
                if block in self.out_indices:
                    streams[block] = stream
        return tuple(
            self.format_output(block, streams[block], first.context) for block in self.out_indices
        )

    def run_first_pass(self, image: Tensor) -> FirstPass:
        """Everything up to the read-out, in eval mode; without feedback, up to the outputs.

        Args:
            image: Images ``(B, 3, H, W)``.
        """
        with set_modes(dict.fromkeys(self._bottom_up(), False)):
            if self.topdown is None:
                return FirstPass(dict(zip(self.out_indices, self._run_plain(image), strict=True)))
            return self._run_first_pass(image)

    def _run_plain(self, image: Tensor) -> tuple[Tensor, ...]:
        """What the parent computes, up to the last output."""
        stream, context = self._embed(image)
        outputs = []
        for block in range(self.out_indices[-1] + 1):
            stream = self.run_block(block, stream)
            if block in self.out_indices:
                outputs.append(self.format_output(block, stream, context))
        return tuple(outputs)

    def _embed(self, image: Tensor) -> tuple[Tensor, Any]:
        """As :meth:`embed`, and the stream asks for gradients.

        Reentrant activation checkpointing gives none to the parameters of a block otherwise.
        """
        stream, context = self.embed(image)
        if self.tuned and torch.is_grad_enabled() and not stream.requires_grad:
            stream = stream.detach().requires_grad_()
        return stream, context

    def _run_first_pass(self, image: Tensor, keep_all: bool = False) -> FirstPass:
        """The streams that the second pass needs, or all of them."""
        route, first = self.route, FirstPass()
        needed = {route.feedback_to - 1, route.feedback_from - 1}
        needed.update(block for block in route.shared if block in self.out_indices)
        stream, first.context = self._embed(image)
        for block in range(-1, route.feedback_from):
            if block >= 0:
                stream = self.run_block(block, stream)
            if keep_all or block in needed:
                first.streams[block] = stream
            if block + 1 in route.receivers:
                first.sizes[block + 1] = stream.shape[-2:]
        return first

    def provide(self, first: FirstPass) -> None:
        """Let the next forward take this first pass, and run none.

        What of the images the second pass needs are their embeddings, unless the streams hold the
        one that enters the first receiver.

        Example:
            >>> first = backbone.run_first_pass(images)
            >>> backbone.provide(first)
            >>> backbone(images)  # costs the second pass only
        """
        self._given = first

    @property
    def needs_image(self) -> bool:
        """Whether a forward that is provided with a first pass needs the images all the same."""
        return self.topdown is not None and self.route.feedback_to == 0

    @property
    def folded(self) -> bool:
        """Whether the top-down module is folded for inference."""
        return self.topdown is not None and self.topdown.selection.channel_transform is None

    def fold(self) -> SteeredBackbone:
        """Fold the trained top-down module for inference: fewer products, the same outputs.

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

    def merge(self) -> SteeredBackbone:
        """Write what a method added to the layers into their weights: the backbone without it.

        LoRA, SSF, and the low-rank updates of TOAST-Lite. The outputs stay the same, and nothing
        trains any more.

        Returns:
            The backbone itself, in eval mode.

        Raises:
            ValueError: There is nothing to merge, or something that cannot be merged.
        """
        tuned = [module for module in self.modules() if isinstance(module, TunedLayer)]
        layers = [layer for layer in tuned if isinstance(layer, MergeableLayer)]
        if not tuned and 'TOAST-Lite' not in self.method:
            raise ValueError('no method added anything that could be merged into the weights')
        for layer in tuned:
            if layer not in layers:
                raise ValueError(f'{type(layer).__name__} cannot be merged into its weights')
        for layer in layers:
            layer.check_mergeable()
        for layer in layers:
            layer.merge()
        if self.topdown is not None and not self.folded:
            self.topdown.feedback.merge()
        self.added = frozenset()
        self.tuned = False
        self.method = _describe(self.topdown, None, self.frozen)
        self.requires_grad_(False)
        return self.eval()

    def is_base(self, name: str) -> bool:
        """Whether a weight of this name is the pre-trained backbone's, as a checkpoint has it."""
        return name not in self.added and name.split('.')[0] not in ('topdown', *self.new_modules)

    @contextmanager
    def tracing(self) -> Iterator[Trace]:
        """Record what the passes of the next forward compute; nested, it is the same record.

        Example:
            >>> with backbone.tracing() as trace:
            ...     backbone(image)
            >>> trace.z.shape  # (B, N, C)
        """
        outer = self._trace
        trace = self._trace = outer or Trace()
        try:
            yield trace
        finally:
            self._trace = outer

    def finish_first_pass(self, trace: Trace) -> tuple[Tensor, ...]:
        """Outputs of the plain backbone: the traced first pass, run on to its end."""
        streams = dict(trace.first.streams)
        with set_modes(dict.fromkeys(self._bottom_up(), False)):
            for block in range(self.route.feedback_from, self.out_indices[-1] + 1):
                streams[block] = self.run_block(block, streams[block - 1])
            return tuple(
                self.format_output(block, streams[block], trace.first.context)
                for block in self.out_indices
            )

    def train(self, mode: bool = True) -> SteeredBackbone:
        """Set the mode; a frozen backbone stays in eval mode unless a method tunes it alone.

        Raises:
            RuntimeError: A folded backbone cannot be trained.
        """
        if mode and self.folded:
            raise RuntimeError(
                'the top-down module is folded for inference and cannot be trained: train from the '
                'checkpoint before folding'
            )
        super().train(mode)
        for module in self._bottom_up() if self.frozen else []:
            # Where a method tunes the backbone alone, drop path acts; statistics stay the base's.
            if not self.tuned or self.topdown is not None or isinstance(module, _BatchNorm):
                module.training = False
        return self

    def init_weights(self) -> None:
        """Initialise as the parent does, then load pre-trained weights and the pre-tuned module.

        Raises:
            CheckpointError: A checkpoint does not cover the backbone, or the
                pre-tuned module is of another base, width or route.
        """
        # The parent's initialisers would reach the top-down module, which has its own.
        topdown, self.topdown = self.topdown, None
        super().init_weights()
        self.topdown = topdown
        for module in self.modules():
            if isinstance(module, TunedLayer):
                module.reset_tuning()
        for pretrained in self.pretrained:
            load_base(self, **pretrained)
        if self.pretuned:
            load_pretuned(self, self.pretuned)

    def _freeze_unused(self) -> None:
        """Freeze what no output depends on: DDP fails on trainable parameters without gradients."""
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

    def _bottom_up(self) -> list[nn.Module]:
        """All modules below this one but the top-down part."""
        return [
            module
            for name, module in self.named_modules()
            if name and name.split('.')[0] != 'topdown'
        ]
