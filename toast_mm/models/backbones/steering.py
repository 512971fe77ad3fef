"""The two-pass loop that every TOAST backbone goes through."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mmcv.cnn.bricks import DropPath
from mmengine.runner import CheckpointLoader
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from torch import Tensor, nn

from toast_mm.checkpoint import CheckpointError, check_fit
from toast_mm.topdown import FeedbackRoute, TopDown


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


class SteeredBackbone(BaseBackbone):
    """Goes before an mmpretrain backbone: embed, first pass, select, feed back, second pass.

    A backbone says how to :meth:`embed`, :meth:`run_block` with an optional
    signal, :meth:`read_out` and :meth:`format_output`; the order is written
    here. With ``topdown`` None it computes exactly what its parent computes.

    Nothing is detached (paper sec. 3). The first pass needs no graph unless
    something in it trains, and autograd then records none.
    """

    topdown: TopDown | None
    route: FeedbackRoute
    frozen: bool
    pretuned: str | None
    out_indices: list[int]

    # Modules that no pre-trained checkpoint has: they train and need no covering.
    new_modules: tuple[str, ...] = ()

    @abstractmethod
    def embed(self, image: Tensor) -> tuple[Tensor, Any]:
        """Image to the stream that enters block 0, and what format_output needs to know."""

    @abstractmethod
    def run_block(self, block: int, stream: Tensor, signal: Tensor | None = None) -> Tensor:
        """Run one block, with the top-down signal if it receives one."""

    @abstractmethod
    def read_out(self, stream: Tensor) -> Tensor:
        """Stream after ``route.feedback_from`` blocks to what the selection selects from."""

    @abstractmethod
    def format_output(self, block: int, stream: Tensor, context: Any) -> Tensor:
        """Stream after a block to the backbone's output of that block."""

    def steer(self, topdown: TopDown | None, pretuned: str | None, frozen: bool) -> None:
        """Add the top-down module and freeze the rest; called at the end of ``__init__``.

        Args:
            topdown: The module for :attr:`route`, or None for the plain
                backbone.
            pretuned: Checkpoint whose ``topdown.*`` weights
                :meth:`init_weights` loads.
            frozen: Whether the backbone is frozen.
        """
        if pretuned and topdown is None:
            raise ValueError(
                f'pretuned={pretuned!r} needs a top-down module, but feedback_from is None'
            )
        self.topdown = topdown
        self.pretuned = pretuned
        self.frozen = frozen
        self._register_load_state_dict_pre_hook(_check_coverage, with_module=True)
        if frozen:
            for name, parameter in self.named_parameters():
                if name.split('.')[0] not in ('topdown', *self.new_modules):
                    parameter.requires_grad_(False)
        self.train(self.training)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Image ``(B, 3, H, W)`` to one output per index of ``out_indices``."""
        if self.topdown is None:
            return super().forward(image)

        route, streams, bottom_up = self.route, {}, self._bottom_up()
        with set_modes(dict.fromkeys(bottom_up, False)):
            shared, context = self.embed(image)
            for block in route.shared:
                streams[block] = shared = self.run_block(block, shared)
            stream = shared
            for block in route.receivers:
                stream = self.run_block(block, stream)
            z = self.read_out(stream)

        signals = self.topdown(z)

        drop_paths = {module: self.training for module in bottom_up if isinstance(module, DropPath)}
        with set_modes(drop_paths):
            stream = shared
            for block in route.second_pass[: self.out_indices[-1] + 1 - route.feedback_to]:
                streams[block] = stream = self.run_block(block, stream, signals.get(block))
        return tuple(
            self.format_output(block, streams[block], context) for block in self.out_indices
        )

    def train(self, mode: bool = True) -> SteeredBackbone:
        """Set the mode; a frozen backbone stays in eval mode."""
        super().train(mode)
        if self.frozen:
            for module in self._bottom_up():
                module.training = False
        return self

    def init_weights(self) -> None:
        """Initialise as the parent does, then load the pre-tuned top-down module if one is named.

        Raises:
            CheckpointError: A checkpoint does not cover the backbone, or the
                pre-tuned module is of another width or route.
        """
        try:
            super().init_weights()
        except CheckpointError as error:
            raise CheckpointError(f'init_cfg={self.init_cfg}: {error}') from error
        except AssertionError as error:  # mmengine's, where no name in the file has the prefix
            if not (isinstance(self.init_cfg, dict) and self.init_cfg.get('prefix')):
                raise
            file = CheckpointLoader.load_checkpoint(self.init_cfg['checkpoint'], map_location='cpu')
            first = next(iter(self.state_dict()))
            right = {
                name.removesuffix(first)
                for name in file.get('state_dict', file)
                if name.endswith(first)
            }
            raise CheckpointError(
                f'init_cfg={self.init_cfg}: {error}; the file has {first} under prefix '
                f'{" or ".join(map(repr, right)) or None}'
            ) from error
        if self.topdown is not None and self.pretuned:
            self._load_pretuned(self.topdown, self.pretuned)

    def _load_pretuned(self, topdown: TopDown, filename: str) -> None:
        checkpoint = CheckpointLoader.load_checkpoint(filename, map_location='cpu')
        given = {
            name.split('topdown.', 1)[1]: tensor
            for name, tensor in checkpoint.get('state_dict', checkpoint).items()
            if 'topdown.' in name
        }
        expected = topdown.state_dict()
        try:
            check_fit(expected, given, f'top-down module for {self.route}')
            if unexpected := [name for name in given if name not in expected]:
                raise CheckpointError(
                    f'it was tuned for another route than {self.route}: it also holds '
                    f'{", ".join(unexpected)}'
                )
        except CheckpointError as error:
            raise CheckpointError(f'pretuned={filename!r}: {error}') from error
        topdown.load_state_dict(given)

    def _bottom_up(self) -> list[nn.Module]:
        """All modules below this one but the top-down part."""
        return [
            module
            for name, module in self.named_modules()
            if name and name.split('.')[0] != 'topdown'
        ]


def _check_coverage(
    backbone: SteeredBackbone, state_dict: dict, prefix: str, *args: Any, **kwargs: Any
) -> None:
    """Before loading: less of the backbone than expected is an error, never a warning."""
    expected = {
        prefix + name: tensor
        for name, tensor in backbone.state_dict().items()
        if name.split('.')[0] not in ('topdown', *backbone.new_modules)
    }
    check_fit(expected, state_dict, 'backbone')
    # Blocks that this backbone lacks: a deeper checkpoint must not be cut short in silence.
    parts = {_part(name, prefix) for name in expected}
    surplus = [
        name
        for name in state_dict
        if name.startswith(prefix) and name not in expected and _part(name, prefix) in parts
    ]
    if surplus:
        raise CheckpointError(
            f'the checkpoint holds more than this backbone has: {", ".join(surplus)}'
        )


def _part(name: str, prefix: str) -> str:
    return name[len(prefix) :].split('.')[0]
