"""The two-pass loop that every TOAST backbone goes through."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .coarse import fit_tokens
from .first_pass import FirstPass
from .modes import first_pass_modes, second_pass_modes, set_modes
from .record import PassRecord
from .transfer import TransferBackbone


class SteeredBackbone(TransferBackbone):
    """Steers a backbone: embed, first pass, select, feed back, second pass.

    A backbone says how to :meth:`embed`, :meth:`run_block` with an optional
    signal, :meth:`read_out` and :meth:`format_output`; the order is written
    here. With ``topdown`` None it computes exactly what its parent computes.
    With ``coarse`` images the first pass shares no block with the second, which
    embeds the whole image and runs all blocks.

    Nothing is detached (paper sec. 3). The first pass needs no graph unless
    something in it trains, and autograd then records none.
    """

    _record: PassRecord | None = None
    _given: FirstPass | None = None

    @abstractmethod
    def embed(self, image: Tensor) -> tuple[Tensor, Any]:
        """Turn an image into the stream that enters block 0, and context for later methods."""

    @abstractmethod
    def run_block(self, block: int, stream: Tensor, signal: Tensor | None = None) -> Tensor:
        """Run one block, with the top-down signal if it receives one."""

    @abstractmethod
    def read_out(self, stream: Tensor) -> tuple[Tensor, Tensor]:
        """Turn the stream after ``route.feedback_from`` blocks into inputs of the selection.

        Returns:
            Features that the mask is computed from, and features that it selects from, both with
            channels last.
        """

    @abstractmethod
    def format_output(self, block: int, stream: Tensor, context: Any) -> Tensor:
        """Turn the stream after a block into the output of the backbone for this block."""

    @abstractmethod
    def signal_ratio(self, block: int, stream: Tensor, signal: Tensor) -> float:
        """Norm of the signal divided by the norm of the features that it is added to.

        See :func:`norm_ratio` for signals of another grid.
        """

    def attention(self, block: int, stream: Tensor, context: Any) -> Tensor | None:
        """Attention of a block to the patches of the image. Default: None, for blocks without it.

        Args:
            block: Number of the block.
            stream: The stream that enters it.
            context: What :meth:`embed` gave beside the stream.

        Returns:
            Attention ``(B, heads, h, w)`` of the class token, or the mean over all patches if there
            is none.
        """
        return None

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Turn images ``(B, bands, H, W)`` into one output per index of ``out_indices``.

        Raises:
            ValueError: Images have other bands than ``in_channels``, or the first pass that
                :meth:`using` hands over is that of other images.
        """
        self._check_bands(image)
        given = self._given
        if given is not None and not given.belongs_to(image):
            raise ValueError(
                f'these images {tuple(image.shape)} are not those that the first pass was computed '
                'from: a model that runs its backbone on windows, flipped or changed images must '
                'compute the first pass of each (without first_pass_cache)'
            )
        record = self._record
        self._record = None  # before anything can fail: a later forward must not continue it
        if self.topdown is None:
            if given:
                return tuple(given.streams[block] for block in self.out_indices)
            return self._run_plain(image, record)

        route = self.route
        modules = self.backbone_modules()
        with set_modes(first_pass_modes(modules)):
            first = given or self._run_first_pass(image, keep_all=record is not None)
            context, shared = first.context, first.streams.get(route.feedback_to - 1)
            if self.coarse:
                shared, context = self.embed(image)
            elif shared is None:
                shared = self.embed(image)[0]
            z, features = self.read_out(first.streams[route.feedback_from - 1])

        signals = self.topdown(z, features, first.sizes)
        blocks = range(self._shared_blocks.stop, self.out_indices[-1] + 1)
        if record:
            record.first, record.z, record.signals, record.context = first, z, signals, context
            record.second[blocks.start - 1] = shared

        streams = {
            block: first.streams[block]
            for block in self._shared_blocks
            if block in self.out_indices
        }
        fitting = self.fitting_arguments(first.context, context) if self.coarse else {}
        with set_modes(second_pass_modes(modules, self.training)):
            for block, _, leaving in self.run_blocks(shared, blocks, context, signals, **fitting):
                if record:
                    record.second[block] = leaving
                if block in self.out_indices:
                    streams[block] = leaving
        # A list: after a graph break, torch.compile on Python 3.14 loses `self` in a generator.
        outputs = [self.format_output(block, streams[block], context) for block in self.out_indices]
        return tuple(outputs)

    def shared_arguments(self, context: Any) -> dict[str, Any]:
        """Arguments that all blocks of a pass share, such as rotary embeddings. Default: none.

        Args:
            context: What :meth:`embed` gave beside the stream.

        Returns:
            Arguments of :meth:`run_block` by name.
        """
        return {}

    def fitting_arguments(self, coarse: Any, context: Any) -> dict[str, Any]:
        """Arguments that fit the signals of a coarse first pass.

        Default: the function ``fit``, if the stream consists of tokens; blocks with maps see how to
        resize a signal.

        Args:
            coarse: What :meth:`embed` gave beside the stream of the coarse image; for tokens the
                grid of the patches.
            context: The same of the whole image.

        Returns:
            Arguments of :meth:`run_block` by name.
        """
        if self.tokens is None:
            return {}
        extra = self.tokens.extra
        return {'fit': partial(fit_tokens, extra=extra, grid=coarse, wanted=context)}

    def run_blocks(
        self,
        stream: Tensor,
        blocks: Iterable[int],
        context: Any,
        signals: Mapping[int, Tensor] | None = None,
        **arguments: Any,
    ) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Run blocks in order: the loop of all passes.

        The graph begins where the first tuned block does: reentrant activation checkpointing, which
        mmengine's switch turns on, gives no gradients to the parameters of a block whose input asks
        for none.

        Args:
            stream: Enters the first of the blocks: tokens ``(B, N, C)`` or a map ``(B, C, H, W)``.
            blocks: Numbers of adjacent blocks, in ascending order.
            context: What :meth:`embed` gave beside the stream.
            signals: Top-down signals by block. Defaults to None, a pass without feedback.
            **arguments: Further arguments of :meth:`run_block`.

        Yields:
            Number of a block, the stream that entered it, and the stream that left it.
        """
        signals = signals or {}
        shared = self.shared_arguments(context) | arguments
        # A compiled graph has no reentrant checkpoints, and no leaf can be made inside it.
        marks_start = torch.is_grad_enabled() and not torch.compiler.is_compiling()
        for block in blocks:
            starts = marks_start and block == self.first_tuned and block not in signals
            if starts and not stream.requires_grad:
                stream = stream.detach().requires_grad_()
            entering, stream = stream, self.run_block(block, stream, signals.get(block), **shared)
            yield block, entering, stream

    def run_first_pass(self, image: Tensor) -> FirstPass:
        """Run everything up to the read-out in eval mode. Without feedback, up to the outputs.

        Args:
            image: Images ``(B, bands, H, W)``.

        Raises:
            ValueError: Images have other bands than ``in_channels``.
        """
        self._check_bands(image)
        with set_modes(first_pass_modes(self.backbone_modules())):
            if self.topdown is None:
                outputs = self._run_plain(image)
                return FirstPass(dict(zip(self.out_indices, outputs, strict=True)), images=image)
            return replace(self._run_first_pass(image), images=image)

    def _check_bands(self, image: Tensor) -> None:
        if self.stem_weight is not None and image.shape[1] != self.in_channels:
            raise ValueError(
                f'images have {image.shape[1]} bands, but model.backbone.in_channels='
                f'{self.in_channels}: the two must be equal'
            )

    def _run_plain(self, image: Tensor, record: PassRecord | None = None) -> tuple[Tensor, ...]:
        """Compute the outputs of the plain backbone, whose only pass is the first."""
        stream, context = self.embed(image)
        outputs = []
        if record:
            record.first, record.context = FirstPass({-1: stream}, context=context), context
        for block, _, leaving in self.run_blocks(stream, range(self.out_indices[-1] + 1), context):
            if record:
                record.first.streams[block] = leaving
            if block in self.out_indices:
                outputs.append(self.format_output(block, leaving, context))
        return tuple(outputs)

    def _run_first_pass(self, image: Tensor, keep_all: bool = False) -> FirstPass:
        """Keep the streams that the second pass needs, or all of them."""
        route, needed = self.route, self._needed_streams()
        stream, context = self.embed_first(image)
        first = FirstPass(context=context, scale=self.first_scale)
        if keep_all or -1 in needed:
            first.streams[-1] = stream
        for block, entering, leaving in self.run_blocks(
            stream, range(route.feedback_from), context
        ):
            if keep_all or block in needed:
                first.streams[block] = leaving
            if block in route.receivers:
                first.sizes[block] = entering.shape[-2:]
        return first

    def embed_first(self, image: Tensor) -> tuple[Tensor, Any]:
        """Turn an image into the stream that enters the first pass; see :meth:`embed`."""
        return self.embed(self.coarse.resize(image) if self.coarse else image)

    @contextmanager
    def using(self, first: FirstPass) -> Iterator[None]:
        """Give forwards inside the context this first pass, which they do not run then.

        What of the images the second pass needs are their embeddings, unless the streams hold the
        one that enters the first receiver.

        Args:
            first: First pass of :meth:`run_first_pass`, of this backbone or of another one with the
                same frozen weights.

        Raises:
            ValueError: It belongs to no images, or is that of another route or scale.

        Example:
            >>> first = backbone.run_first_pass(images)
            >>> with backbone.using(first):
            ...     backbone(images)  # costs the second pass only
        """
        if first.images is None:
            raise ValueError('the first pass does not say which images it belongs to')
        if first.scale != self.first_scale:
            raise ValueError(
                f'the first pass ran on images at scale {first.scale:g}, but this backbone has '
                f'first_pass.scale={self.first_scale:g}: compute it with this backbone'
            )
        blocks = self._needed_streams() - {-1}
        receivers = set(self.route.receivers) if self.topdown is not None else set()
        held = blocks <= first.streams.keys() and receivers <= first.sizes.keys()
        if not held or bool(first.sizes) != bool(receivers):
            raise ValueError(
                f'the first pass holds the streams of blocks {sorted(first.streams)}, which are '
                'not those that this backbone needs: it is that of another route'
            )
        outer, self._given = self._given, first
        try:
            yield
        finally:
            self._given = outer

    def _needed_streams(self) -> set[int]:
        """Blocks whose streams a forward takes from the first pass. -1 is the embedded image."""
        if self.topdown is None:
            return set(self.out_indices)
        shared = self._shared_blocks
        outputs = {block for block in shared if block in self.out_indices}
        entering = set() if self.coarse else {shared.stop - 1}
        return entering | {self.route.feedback_from - 1} | outputs

    @property
    def _shared_blocks(self) -> range:
        """Blocks that run once for both passes: none if the first one is coarse."""
        return range(0) if self.coarse else self.route.shared

    @property
    def first_scale(self) -> float:
        """Size of the images of the first pass, relative to those of the second."""
        return self.coarse.scale if self.coarse else 1.0

    @property
    def needs_image(self) -> bool:
        """Whether a forward still needs the images when it is given a first pass."""
        return self.topdown is not None and not self._shared_blocks

    @contextmanager
    def recording(self) -> Iterator[PassRecord]:
        """Record both passes of the next forward. Nested contexts share one record.

        Example:
            >>> with backbone.recording() as record:
            ...     backbone(image)
            >>> record.z.shape  # (B, N, C)
        """
        outer = self._record
        record = self._record = outer or PassRecord()
        try:
            yield record
        finally:
            self._record = outer

    def finish_first_pass(self, record: PassRecord) -> tuple[Tensor, ...]:
        """Continue the recorded first pass to the outputs of the plain backbone.

        Raises:
            ValueError: The first pass was handed over, without the streams of lower outputs.
        """
        streams = dict(record.first.streams)
        lower = {block for block in self.out_indices if block < self.route.feedback_from}
        if not lower <= streams.keys():
            raise ValueError(
                f'the first pass was handed over without the outputs of blocks '
                f'{sorted(lower - streams.keys())}: run it with the images (without '
                'first_pass_cache)'
            )
        with set_modes(first_pass_modes(self.backbone_modules())):
            read = self.route.feedback_from
            above, context = range(read, self.out_indices[-1] + 1), record.first.context
            for block, _, leaving in self.run_blocks(streams[read - 1], above, context):
                streams[block] = leaving
            return tuple(
                self.format_output(block, streams[block], context) for block in self.out_indices
            )


def norm_ratio(signal: Tensor, features: Tensor) -> float:
    """Norm of a signal divided by that of features, as if both had the same number of elements."""
    places = (features.numel() / signal.numel()) ** 0.5
    return (signal.norm() / features.norm()).item() * places
