"""A method: a factor for every output of the linear layers."""

from torch import nn

from toast_mm.models.layers import replace_layers
from toast_mm.models.peft.base import MergeableLayer, Tuner
from toast_mm.models.peft.targets import find_layers
from toast_mm.registry import MODELS


class GainedLinear(MergeableLayer, nn.Linear):
    added = ('gain',)

    def forward(self, x):
        return super().forward(x) * self.gain

    def reset_tuning(self):
        nn.init.ones_(self.gain)

    def effective_weight(self, rows=slice(None)):
        gain = self.gain[rows]
        bias = None if self.bias is None else self.bias[rows] * gain
        return self.weight[rows] * gain[:, None], bias


@MODELS.register_module()
class Gain(Tuner):
    def inject(self, backbone):
        gained = {}
        for layer in find_layers(backbone, '.*', nn.Linear).values():
            gained[layer] = GainedLinear.from_layer(layer)
            gained[layer].gain = nn.Parameter(layer.weight.new_empty(len(layer.weight)))
            gained[layer].reset_tuning()
        replace_layers(backbone, gained)
