import pytest
import torch
from mmengine.registry import MODEL_WRAPPERS
from torch import nn

from toast_mm.engine import parameter_table


@MODEL_WRAPPERS.register_module(force=True)
class ToyWrapper(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


class Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Linear(100, 100).requires_grad_(False)  # 10,100
        self.topdown = nn.ModuleDict(
            {'selection': nn.Linear(10, 10), 'feedback': nn.Linear(10, 9, bias=False)}  # 110 + 90
        )
        self.topdown['feedback'].requires_grad_(False)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.head = nn.Linear(100, 10)  # 1,010
        self.head.again = self.head.weight  # shared: counts once
        self.register_buffer('mean', torch.zeros(99))  # no parameter
        self.scale = nn.Parameter(torch.zeros(()))


TABLE = """\
+------------------+------------+-------+---------+
| part             | parameters | tuned |   share |
+------------------+------------+-------+---------+
| scale            |          1 |     1 | 100.00% |
| backbone         |     10,100 |     0 |   0.00% |
| backbone.topdown |        200 |   110 |  55.00% |
| head             |      1,010 | 1,010 | 100.00% |
+------------------+------------+-------+---------+
| model            |     11,311 | 1,121 |   9.91% |
+------------------+------------+-------+---------+"""


@pytest.mark.parametrize('wrap', [nn.Module.train, ToyWrapper], ids=['plain', 'wrapped'])
def test_numbers(wrap):
    assert parameter_table(wrap(Model())) == TABLE


def test_plain_backbone():
    table = parameter_table(nn.Sequential(nn.Linear(1, 1)).requires_grad_(False))
    assert 'topdown' not in table
    assert [line.split() for line in table.splitlines() if 'model' in line] == [
        ['|', 'model', '|', '2', '|', '0', '|', '0.00%', '|']
    ]
