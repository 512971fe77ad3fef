"""Several tasks on one frozen backbone, with one copy of its weights and one first pass."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from mmcv.cnn.bricks import DropPath
from mmengine.config import Config
from mmengine.runner import load_checkpoint
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from toast_mm.checkpoint.finite import check_finite
from toast_mm.engine.model import build_model
from toast_mm.models.backbones.first_pass import FirstPass
from toast_mm.models.backbones.steering import SteeredBackbone


class MultiTask(Mapping[str, Any]):
    """Classifiers and segmentors by name that share a frozen backbone.

    Tasks share the first pass if it is that of the plain backbone: TOAST with any
    route, linear probes and InCA. T tasks then cost 1 + T passes instead of 2 T;
    a linear probe only adds its head. Tasks with a coarse first pass share it with
    those of the same scale. Some tasks compute their passes alone:
    those that tune the backbone itself (LoRA, BitFit and the others), prepare
    images in another way, have other position embeddings or predict in sliding
    windows. The weights of the base are in memory once.

    Args:
        device: Device of all tasks. Defaults to ``'cpu'``.

    Example:
        >>> tasks = MultiTask()
        >>> tasks.add('birds', 'configs/birds.py', 'birds.safetensors')
        >>> tasks.add('cars', 'configs/cars.py', 'cars.safetensors')
        >>> tasks(batch)['birds'][0].pred_label      # both tasks, one first pass
        >>> tasks['cars'].test_step(batch)           # one task
    """

    def __init__(self, device: str = 'cpu') -> None:
        self.device = device
        self._models: dict[str, Any] = {}

    def add(self, name: str, config: str | Config, checkpoint: str) -> None:
        """Load a task.

        Args:
            name: Name of the task.
            config: Config of its training.
            checkpoint: Task file, or a checkpoint of the whole model.

        Raises:
            ValueError: See :meth:`add_model`.
            CheckpointError: The checkpoint does not fit the config, or is not finite.
        """
        cfg = Config.fromfile(config) if not isinstance(config, Config) else config
        model = build_model(cfg)
        self._check_possible(name, model)
        meta = load_checkpoint(model, checkpoint, map_location='cpu', strict=True).get('meta', {})
        check_finite(dict(model.named_parameters()))
        model.dataset_meta = meta.get('dataset_meta', {})
        self.add_model(name, model)

    def add_model(self, name: str, model: Any) -> None:
        """Add a task given as a model.

        Raises:
            ValueError: The name is taken, the backbone is not of toast_mm, or its base differs.
        """
        self._check_possible(name, model)
        model = model.to(self.device)
        for other, present in self._models.items():
            _share_base(name, model.backbone, other, present.backbone)
        self._models[name] = model.eval()

    @torch.no_grad()
    def __call__(
        self, batch: Mapping[str, Any], names: Iterable[str] | None = None
    ) -> dict[str, Any]:
        """Predict several tasks for the same images.

        Args:
            batch: ``inputs`` and ``data_samples`` from the pipeline of any of the tasks. A
                classifier gets only the metadata of a segmentor's samples, and the reverse.
            names: Names of the tasks. Defaults to all.

        Returns:
            The result of ``test_step`` of each model, by name.

        Raises:
            KeyError: There is no task of this name.
        """
        models = {name: self[name] for name in (self if names is None else names)}
        shared: dict[str, FirstPass] = {}
        for sharing in self._sharing(models, batch):
            images = next(iter(sharing.values()))
            streams = _first_streams(images, [self[name].backbone for name in sharing])
            shared |= dict.fromkeys(sharing, streams)
        predictions = {}
        for name, model in models.items():
            with (
                model.backbone.using(_select(model.backbone, shared[name]))
                if name in shared
                else nullcontext()
            ):
                predictions[name] = model.test_step(_batch_for(model, batch))
        return predictions

    def _sharing(
        self, models: Mapping[str, Any], batch: Mapping[str, Any]
    ) -> list[dict[str, Tensor]]:
        """Groups of tasks with a common first pass, each with its images, which are equal."""
        groups: dict[float, dict[str, Tensor]] = {}  # by the scale of the first pass
        for name, model in models.items():
            windows = (getattr(model, 'test_cfg', None) or {}).get('mode') == 'slide'
            if windows or not shares_first_pass(model.backbone):
                continue
            images = model.data_preprocessor(_batch_for(model, batch), False)['inputs']
            sharing = groups.setdefault(model.backbone.first_scale, {})
            if all(
                torch.equal(images, others)
                and _same_positions(model.backbone, models[other].backbone)
                for other, others in sharing.items()
            ):
                sharing[name] = images
        return [sharing for sharing in groups.values() if len(sharing) > 1]

    def __getitem__(self, name: str) -> Any:
        """The model of a task."""
        if name not in self._models:
            raise KeyError(f'there is no task {name!r}; there are: {", ".join(self) or "none"}')
        return self._models[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

    def _check_possible(self, name: str, model: Any) -> None:
        if name in self._models:
            raise ValueError(f'there is a task {name!r} already: give this one another name')
        backbone = getattr(model, 'backbone', None)
        if not isinstance(backbone, SteeredBackbone):
            kind = type(model if backbone is None else backbone).__name__
            raise ValueError(
                f'task {name!r}: {kind} cannot share its first pass; '
                'use toast_mm.TOASTViT, TOASTConvNeXt or TOASTTimm'
            )


def shares_first_pass(backbone: SteeredBackbone) -> bool:
    """Whether the first pass is that of the plain backbone, with nothing tuned in it."""
    return backbone.frozen and not backbone.tuned


def _same_positions(one: SteeredBackbone, other: SteeredBackbone) -> bool:
    """Whether the position embeddings, which each task has for itself, are equal."""
    return all(
        torch.equal(one.get_parameter(name), other.get_parameter(name))
        for name in one.resized_parameters
    )


def _first_streams(images: Tensor, backbones: list[SteeredBackbone]) -> FirstPass:
    """Compute the stream after every block, up to the last one that a backbone needs."""
    deepest = max(backbones, key=_depth_of_first_pass)
    stream, context = deepest.embed_first(images)
    first = FirstPass({-1: stream}, {}, context, images, deepest.first_scale)
    for block, entering, leaving in deepest.run_blocks(
        stream, range(_depth_of_first_pass(deepest)), context
    ):
        first.sizes[block] = entering.shape[-2:]
        first.streams[block] = leaving
    return first


def _depth_of_first_pass(backbone: SteeredBackbone) -> int:
    if backbone.topdown is None:
        return backbone.out_indices[-1] + 1
    return backbone.route.feedback_from


def _select(backbone: SteeredBackbone, first: FirstPass) -> FirstPass:
    """First pass for one backbone: the streams, or its outputs if it has no feedback."""
    if backbone.topdown is not None:
        sizes = {block: first.sizes[block] for block in backbone.route.receivers}
        return FirstPass(dict(first.streams), sizes, first.context, first.images, first.scale)
    outputs = {
        block: backbone.format_output(block, first.streams[block], first.context)
        for block in backbone.out_indices
    }
    return FirstPass(outputs, images=first.images)


def _structure(backbone: SteeredBackbone) -> dict[str, str]:
    """Settings that shapes of weights do not show: blocks, heads, norms, activations."""
    blocks = getattr(backbone, 'depths', backbone.depth)
    structure = {'the backbone': f'a {type(backbone).__name__} of {blocks} blocks'}
    random = (nn.Dropout, DropPath, nn.Identity)  # may differ: they do nothing in eval mode
    for name, module in backbone.named_modules():
        if hasattr(module, 'num_heads'):
            structure[name] = f'attention of {module.num_heads} heads'
        elif isinstance(module, nn.LayerNorm):
            structure[name] = f'a norm with eps={module.eps}'
        elif not isinstance(module, random) and not [*module.children(), *module.parameters()]:
            structure[name] = f'a {type(module).__name__}'
    return structure


def _share_base(name: str, backbone: SteeredBackbone, other: str, present: SteeredBackbone) -> None:
    """Replace the base parameters of a backbone by those of another with the same base.

    Raises:
        ValueError: Parameters that neither task tunes differ, or the architectures do.
    """
    structure, others = _structure(backbone), _structure(present)
    for part in structure:
        # A part that only one of them has belongs to its method or its outputs.
        if structure[part] != others.get(part, structure[part]):
            raise ValueError(
                f'task {name!r} has another architecture than task {other!r}: {part} is '
                f'{structure[part]}, but {others[part]} in {other!r}'
            )
    own = dict(present.named_parameters())
    buffers = dict(present.named_buffers())
    for full_name, buffer in backbone.named_buffers():
        if backbone.is_base(full_name) and not torch.equal(buffer, buffers[full_name]):
            raise ValueError(
                f'task {name!r} was tuned on another backbone than task {other!r}: '
                f'{full_name} differs'
            )
    both = backbone.left_alone & present.left_alone
    for full_name, twin in own.items():
        if full_name not in both:
            continue
        parameter = backbone.get_parameter(full_name)
        if twin.shape != parameter.shape or not torch.equal(twin, parameter):
            if full_name in backbone.resized_parameters:
                continue
            raise ValueError(
                f'task {name!r} was tuned on another backbone than task {other!r}: '
                f'{full_name} differs'
            )
        path, _, attribute = full_name.rpartition('.')
        setattr(backbone.get_submodule(path), attribute, twin)


def _batch_for(model: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a batch for a model: it writes into the samples, and needs those of its kind."""
    kind = SegDataSample if hasattr(model, 'decode_head') else DataSample
    own = dict(batch)
    if own.get('data_samples') is not None:
        own['data_samples'] = [
            copy.deepcopy(sample) if isinstance(sample, kind) else kind(metainfo=sample.metainfo)
            for sample in own['data_samples']
        ]
    return own
