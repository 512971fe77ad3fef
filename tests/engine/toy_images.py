"""Toy images for a small steered classifier, and a hook that observes its training."""

from __future__ import annotations

import torch
from mmcv.transforms import BaseTransform
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmpretrain.models import VisionTransformer
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from toast_mm.registry import DATASETS, TRANSFORMS

SIZES = dict(
    arch=dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32),
    img_size=16,
    patch_size=8,
)
MEAN, STD = (100.0, 120.0, 140.0), (50.0, 60.0, 70.0)


@DATASETS.register_module(force=True)
class ToyImages(BaseDataset):
    """Seven images of two classes."""

    METAINFO = dict(classes=('a', 'b'))

    def load_data_list(self) -> list[dict]:
        return [dict(number=i) for i in range(7)]


@TRANSFORMS.register_module(force=True)
class PackToyImage(BaseTransform):
    """Image that its number determines, plus noise from the global generator."""

    def __init__(self, noise: float = 0.0) -> None:
        self.noise = noise

    def transform(self, results: dict) -> dict:
        image = toy_image(results['number']) + self.noise * torch.rand(3, 16, 16)
        meta = dict(
            number=results['number'], draw=getattr(results['sample_idx'], 'draw', (None, None))
        )
        sample = DataSample(metainfo=meta).set_gt_label(results['number'] % 2)
        return dict(inputs=image, data_samples=sample)


def toy_image(number: int) -> Tensor:
    """Image ``(3, 16, 16)`` as read from a file."""
    return 255 * torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(number))


def read_out(backbone: nn.Module, numbers: list[int], noise: dict[int, Tensor] | None = None):
    """Tokens ``(B, N, C)`` that the selection gets, from mmpretrain's ViT with the same weights."""
    depth = backbone.route.feedback_from
    vit = VisionTransformer(**SIZES, out_type='raw', out_indices=[depth - 1])
    vit.eval()
    state = backbone.state_dict()
    vit.load_state_dict({name: state[name] for name in vit.state_dict()})
    images = torch.stack([toy_image(n) + (noise or {}).get(n, 0) for n in numbers])
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    with torch.no_grad():
        return vit((images.flip(1) - mean) / std)[0]  # BGR to RGB


class Spy(Hook):
    """Records the training images, and the task embedding before each step."""

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.numbers, self.draws, self.inputs, self.embeddings = [], [], [], []

    def before_train_iter(self, runner, batch_idx, data_batch) -> None:
        self.numbers += [sample.number for sample in data_batch['data_samples']]
        self.draws += [sample.draw[1] for sample in data_batch['data_samples']]
        self.inputs += [image.clone() for image in data_batch['inputs']]
        model = getattr(runner.model, 'module', runner.model)
        if model.backbone.topdown is not None:
            self.embeddings.append(model.backbone.topdown.selection.task_embedding.clone())
