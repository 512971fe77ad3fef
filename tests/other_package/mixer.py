"""A family of backbones: an MLP-Mixer, and the same with top-down steering."""

import torch
import torch.nn.functional as F
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from torch import nn

from toast_mm.models.backbones.steering import SteeredBackbone
from toast_mm.models.layers import give_subclass
from toast_mm.models.peft.base import effective_weight
from toast_mm.registry import MODELS
from toast_mm.topdown import FeatureSelection, FeedbackRoute, LinearFeedback, TopDown
from toast_mm.topdown.folding import fold_linear


class MixerBlock(nn.Module):
    def __init__(self, dim, tokens):
        super().__init__()
        self.mix = nn.Linear(tokens, tokens)
        self.norm = nn.LayerNorm(dim)
        self.value = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        x = x + self.mix(x.transpose(1, 2)).transpose(1, 2)
        return x + self.proj(torch.tanh(self.value(self.norm(x))))


class Mixer(BaseBackbone):
    """The plain backbone, as it could stand in mmpretrain."""

    def __init__(
        self,
        dim=12,
        depth=3,
        image=32,
        patch=8,
        out_indices=(-1,),
        in_channels=3,
        init_cfg=None,
    ):
        super().__init__(init_cfg)
        self.patches = nn.Conv2d(in_channels, dim, patch, patch)
        self.blocks = nn.ModuleList(MixerBlock(dim, (image // patch) ** 2) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.out_indices = [index % depth for index in out_indices]

    def forward(self, image):
        x, outputs = self.patches(image).flatten(2).transpose(1, 2), []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in self.out_indices:
                outputs.append(self.norm(x).mean(1))
        return tuple(outputs)


class SteeredMixerBlock(MixerBlock):
    signal_is_value = False

    def forward(self, x, signal=None):
        if signal is None:
            return super().forward(x)
        if not self.signal_is_value:
            signal = F.linear(signal, effective_weight(self.value)[0])
        x = x + self.mix(x.transpose(1, 2)).transpose(1, 2)
        return x + self.proj(torch.tanh(self.value(self.norm(x)) + signal))


@MODELS.register_module()
class TOASTMixer(SteeredBackbone, Mixer):
    lora_targets = ('value',)

    def __init__(
        self,
        *,
        feedback_from='last',
        feedback_to='first',
        lite=None,
        pretuned=None,
        frozen=True,
        tuning=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        for number, block in enumerate(self.blocks):
            give_subclass(block, MixerBlock, SteeredMixerBlock, f'blocks.{number}', 'steering')
        dim, depth = self.patches.out_channels, len(self.blocks)
        topdown = route = None
        if feedback_from is not None:
            route = FeedbackRoute(depth, feedback_from, feedback_to)
            topdown = TopDown(
                FeatureSelection(dim), LinearFeedback(dim, route.receivers), lite=lite
            )
        self.prepare(
            depth=depth,
            out_indices=self.out_indices,
            topdown=topdown,
            route=route,
            pretuned=pretuned,
            frozen=frozen,
            tuning=tuning,
        )

    def embed(self, image):
        return self.patches(image).flatten(2).transpose(1, 2), None

    def run_block(self, block, stream, signal=None):
        return self.blocks[block](stream, signal)

    def read_out(self, stream):
        z = self.norm(stream) if self.route.reads_output else stream
        return z, z

    def format_output(self, block, stream, context):
        return self.norm(stream).mean(1)

    def signal_ratio(self, block, stream, signal):
        return (signal.norm() / stream.norm()).item()

    def block_modules(self, block):
        return [self.blocks[block], *([self.norm] if block == self.depth - 1 else [])]

    def fold_feedback(self, feedback, transform):
        blocks = {number: self.blocks[number] for number in self.route.receivers}
        values = {number: effective_weight(block.value)[0] for number, block in blocks.items()}
        for block in blocks.values():
            block.signal_is_value = True
        return fold_linear(feedback, transform, values)
