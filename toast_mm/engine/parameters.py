"""Table of the tuned parameters of a model."""

from prettytable import PrettyTable
from torch import nn


def parameter_table(model: nn.Module) -> str:
    """Make a table of all and tuned parameters, for every part and for the model.

    The top-down module of a backbone is a part of its own.
    """
    model = getattr(model, 'module', model)  # without DDP's wrapper
    counts: dict[str, list[int]] = {}
    for name, parameter in model.named_parameters():
        part, *rest = name.split('.')
        if rest[:1] == ['topdown']:
            part = f'{part}.topdown'
        for row in (counts.setdefault(part, [0, 0]), counts.setdefault('model', [0, 0])):
            row[0] += parameter.numel()
            row[1] += parameter.numel() if parameter.requires_grad else 0
    total = counts.pop('model')

    table = PrettyTable(['part', 'parameters', 'tuned', 'share'], align='r')
    table.align['part'] = 'l'
    rows = [*counts.items(), ('model', total)]
    for number, (part, (parameters, tuned)) in enumerate(rows, start=2):
        share = f'{tuned / parameters:.2%}'
        table.add_row([part, f'{parameters:,}', f'{tuned:,}', share], divider=number == len(rows))
    return table.get_string()
