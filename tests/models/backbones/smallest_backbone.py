"""The smallest backbone there can be, plain and steered."""

import torch
from mmcv.cnn.bricks import DropPath
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from torch import nn

from toast_mm.models.backbones.steering import SteeredBackbone
from toast_mm.topdown import FeatureSelection, FeedbackRoute, LinearFeedback, TopDown

DIM = 4
DEPTH = 4


class Block(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.linear = nn.Linear(dim, dim)
        self.norm = nn.BatchNorm1d(dim)  # has running statistics
        self.dropout = nn.Dropout(0.5)
        self.drop_path = DropPath(0.5)

    def forward(self, x, signal=None):
        inner = x if signal is None else x + signal
        inner = self.norm(self.linear(inner).transpose(1, 2)).transpose(1, 2)
        return x + self.drop_path(self.dropout(torch.tanh(inner)))


class Plain(BaseBackbone):
    """A plain backbone, as mmpretrain could have it."""

    def __init__(self, dim=DIM, depth=DEPTH, out_indices=(DEPTH - 1,), init_cfg=None):
        super().__init__(init_cfg)
        self.stem = nn.Linear(3, dim)
        self.blocks = nn.ModuleList(Block(dim) for _ in range(depth))
        self.out_norm = nn.LayerNorm(dim)
        self.out_indices = list(out_indices)

    def forward(self, image):
        outputs, stream = [], self.stem(image)
        for index, block in enumerate(self.blocks):
            stream = block(stream)
            if index in self.out_indices:
                outputs.append(self.out_norm(stream))
        return tuple(outputs)


class Steered(SteeredBackbone, Plain):
    modules_to_save = ('out_norm',)

    def __init__(self, source='last', target='first', pretuned=None, frozen=True, **kwargs):
        super().__init__(**kwargs)
        self.events = []
        topdown = route = None
        if source is not None:
            route = FeedbackRoute(len(self.blocks), source, target)
            dim = self.stem.out_features
            topdown = TopDown(FeatureSelection(dim), LinearFeedback(dim, route.receivers))
        self.prepare(
            depth=len(self.blocks),
            out_indices=self.out_indices,
            topdown=topdown,
            route=route,
            pretuned=pretuned,
            frozen=frozen,
        )

    def embed(self, image):
        self.events.append(('embed', self.modes()))
        return self.stem(image), 'context'

    def run_block(self, block, stream, signal=None):
        kind = 'plain' if signal is None else 'steered'
        self.events.append((f'{kind} {block}', self.modes()))
        return self.blocks[block](stream, signal)

    def read_out(self, stream):
        self.events.append(('read', self.modes()))
        self.z = 2 * stream
        return self.z, 3 * stream

    def format_output(self, block, stream, context):
        assert context == 'context'
        self.events.append((f'format {block}', self.modes()))
        return self.out_norm(stream)

    def block_modules(self, block):
        return [self.blocks[block]]

    def fold_feedback(self, feedback, transform):
        raise NotImplementedError

    def signal_ratio(self, block, stream, signal):
        return (signal.norm() / stream.norm()).item()

    def modes(self):
        """Which kinds of modules are in training mode."""
        return {type(module).__name__ for module in self.modules() if module.training}


def make(*args, cls=Steered, **kwargs):
    torch.manual_seed(0)
    backbone = cls(*args, **kwargs).double()
    for parameter in backbone.parameters():
        nn.init.normal_(parameter)
    return backbone


def image(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 5, 3, dtype=torch.double, generator=generator)


def loss(outputs):
    return sum((output * (2 + index)).sin().sum() for index, output in enumerate(outputs))
