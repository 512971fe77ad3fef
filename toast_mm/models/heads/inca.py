"""InCA: a cross-attention adapter on an activation of a frozen backbone.

Dukler et al., `Your representations are in the network: composable and parallel adaptation for
large scale models <https://arxiv.org/abs/2303.04105>`_.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toast_mm.checkpoint import check_fit, part_is_wanted


def check_frozen(head: str, outputs: Sequence[Tensor]) -> None:
    """Check that the outputs come from a frozen backbone.

    Norms after its layers may train: those on the maps of a ``TOASTConvNeXt`` are new and not
    pre-trained.

    Args:
        head: Name of the head.
        outputs: Outputs of the backbone.

    Raises:
        ValueError: An output depends on a trainable weight of two or more dimensions.
    """
    for number, output in enumerate(outputs):
        nodes, seen = [output.grad_fn], set()
        while nodes:
            node = nodes.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            leaf = getattr(node, 'variable', None)
            if leaf is not None and leaf.ndim > 1:
                raise ValueError(
                    f'{head} adapts a frozen backbone, but output {number} of this one depends on '
                    f'weights that train, such as one of shape {tuple(leaf.shape)}: set '
                    'frozen=True of a backbone of toast_mm, or wrap any other in '
                    "backbone=dict(type='toast_mm.FrozenBackbone', backbone=dict(...)); "
                    'to tune it as well, set tuned_backbone=True of the head'
                )
            nodes += [following for following, _ in node.next_functions]


class CrossAttention(nn.Module):
    """Learned queries that attend to the tokens of an image, and a norm: ``LN(attention)``.

    Keys and values have no bias: a bias of the keys has no effect on the softmax, and a bias of the
    values would only add to the bias of the output projection.

    Args:
        in_channels: Channels C of the tokens.
        embed_dims: Width d of the queries and of the output.
        num_heads: Number h of attention heads.
        norm_eps: Epsilon of the norm.

    Raises:
        ValueError: The heads do not divide the width.
    """

    def __init__(self, in_channels: int, embed_dims: int, num_heads: int, norm_eps: float) -> None:
        super().__init__()
        if embed_dims % num_heads:
            raise ValueError(
                f'num_heads={num_heads} of the cross attention must divide its width, '
                f'embed_dims={embed_dims}'
            )
        self.num_heads = num_heads
        self.query = nn.Linear(embed_dims, embed_dims)
        self.key = nn.Linear(in_channels, embed_dims, bias=False)
        self.value = nn.Linear(in_channels, embed_dims, bias=False)
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.norm = nn.LayerNorm(embed_dims, norm_eps)
        for layer in (self.query, self.key, self.value, self.proj):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """Queries ``(Q, d)`` and normed tokens ``(B, N, C)`` to ``(B, Q, d)``."""
        query = self.query(queries).unflatten(-1, (self.num_heads, -1)).transpose(0, 1)
        few = self.num_heads * len(queries) <= queries.shape[-1]
        attend = self._attend_by_few if few else self._attend
        return self.norm(self.proj(attend(query, tokens)))

    def _attend(self, query: Tensor, tokens: Tensor) -> Tensor:
        """Projected queries ``(h, Q, d / h)`` to ``(B, Q, d)``, before the output projection."""
        key, value = (
            layer(tokens).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for layer in (self.key, self.value)
        )
        query = query.expand(len(tokens), -1, -1, -1)
        return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)

    def _attend_by_few(self, query: Tensor, tokens: Tensor) -> Tensor:
        """As ``_attend``, but faster for few queries: it projects these instead of all tokens.

        ``<q, W_K x> = <W_K^T q, x>``, and ``sum_n a_n W_V x_n = W_V sum_n a_n x_n``.
        """
        key, value = (
            layer.weight.unflatten(0, (self.num_heads, -1)) for layer in (self.key, self.value)
        )
        asked = (query @ key).flatten(0, 1).expand(len(tokens), -1, -1)  # (B, h * Q, C)
        scale = query.shape[-1] ** -0.5
        out = F.scaled_dot_product_attention(asked, tokens, tokens, scale=scale)
        out = out.unflatten(1, (self.num_heads, -1))
        return torch.einsum('bhqc,hdc->bqhd', out, value).flatten(2)


class ClassQueries(nn.Module):
    """Queries of some classes, and a linear read-out for each: ``<w_c, v_c> + b_c``.

    Args:
        num_classes: Number K of classes.
        embed_dims: Width d of the queries.
        init_std: Standard deviation of queries and weights at the start.
    """

    def __init__(self, num_classes: int, embed_dims: int, init_std: float) -> None:
        super().__init__()
        self.queries = nn.Parameter(init_std * torch.randn(num_classes, embed_dims))
        self.weight = nn.Parameter(init_std * torch.randn(num_classes, embed_dims))
        self.bias = nn.Parameter(torch.zeros(num_classes))


class CrossAttentionAdapter(nn.Module):
    """InCA adapter: maps the activation of one layer to logits, by cross attention.

    ``x = LN(activation)``, ``v = CrossAttention(queries, x)``, and then

    - InCA: ``logits = W v + b``, with the mean of v over the queries;
    - Open-InCA (``per_class=True``), one query per class: ``logits_c = <w_c, v_c> + b_c``.

    In Open-InCA no class depends on the queries of another, so classes can be added to a trained
    adapter. ``old_classes=n`` freezes the adapter of the first n classes, and tunes the queries and
    the read-out of the others. The checkpoint of the old adapter fits by name; it lacks only the
    new classes' ``classes.<i>`` (``strict=False``).

    The paper and its code do not say how several queries are combined (here by their mean), how
    many heads and which widths and initialisation are used, and whether queries are normed (here
    they are not).

    Args:
        in_channels: Channels C of the activation.
        num_classes: Number K of classes, old ones included.
        num_queries: Number of queries of plain InCA. Defaults to 1.
        per_class: Whether this is Open-InCA. Defaults to False.
        old_classes: Number of classes, from the first on, that are frozen; if they were added in
            several steps, the number of each step. Open-InCA only. Defaults to 0.
        embed_dims: Width d of queries and attention. Defaults to the width of the activation.
        num_heads: Number of attention heads. Defaults to 8.
        norm_eps: Epsilon of the norms. Defaults to 1e-6.
        init_std: Initial standard deviation of queries and read-out; projections start from
            Xavier's uniform distribution. Defaults to 0.02, with which attention starts close to a
            mean.

    Raises:
        ValueError: An argument of InCA is given to Open-InCA or the reverse, there is no new class
            beside the old ones, or ``num_heads`` does not divide the width.

    Example:
        >>> CrossAttentionAdapter(768, num_classes=100)(torch.rand(2, 197, 768)).shape
        torch.Size([2, 100])
    """

    _lacks_old_classes = False

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        num_queries: int = 1,
        per_class: bool = False,
        old_classes: int | Sequence[int] = 0,
        embed_dims: int | None = None,
        num_heads: int = 8,
        norm_eps: float = 1e-6,
        init_std: float = 0.02,
    ) -> None:
        super().__init__()
        if num_queries < 1 or (per_class and num_queries != 1):
            raise ValueError(
                f'num_queries={num_queries} must be at least 1; with per_class=True it must be 1, '
                'because every class has one query'
            )
        if old_classes and not per_class:
            raise ValueError(
                f'old_classes={old_classes} needs per_class=True: classes can only be added to a '
                'trained adapter if each has its own query'
            )
        embed_dims = embed_dims or in_channels
        self.old_classes = old_classes
        self.norm = nn.LayerNorm(in_channels, norm_eps)
        self.attention = CrossAttention(in_channels, embed_dims, num_heads, norm_eps)
        self.per_class = per_class
        if per_class:
            steps = _class_steps(num_classes, old_classes)
            # One module per step: its name does not change when classes are added.
            self.classes = nn.ModuleList(ClassQueries(n, embed_dims, init_std) for n in steps)
            if len(steps) > 1:
                self.requires_grad_(False)
                self.classes[-1].requires_grad_(True)
                self._lacks_old_classes = True
                self._register_load_state_dict_pre_hook(_check_old_classes, with_module=True)
        else:
            self.queries = nn.Parameter(init_std * torch.randn(num_queries, embed_dims))
            self.read_out = nn.Linear(embed_dims, num_classes)
            nn.init.normal_(self.read_out.weight, std=init_std)
            nn.init.zeros_(self.read_out.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Activation ``(B, N, C)`` to logits ``(B, K)``.

        Raises:
            RuntimeError: A training adds classes, but the old adapter was not loaded.
        """
        if self.training and self._lacks_old_classes:
            raise RuntimeError(
                'old_classes freezes the adapter of these classes, but its weights are not loaded: '
                'set load_from to its checkpoint'
            )
        tokens = self.norm(tokens)
        if not self.per_class:
            return self.read_out(self.attention(self.queries, tokens).mean(1))
        queries, weight, bias = (
            torch.cat([getattr(step, name) for step in self.classes])
            for name in ('queries', 'weight', 'bias')
        )
        return (self.attention(queries, tokens) * weight).sum(-1) + bias


def _check_old_classes(
    adapter: CrossAttentionAdapter, state_dict: Mapping[str, Tensor], prefix: str, *args: Any
) -> None:
    """Check before loading that the checkpoint holds the whole adapter of the old classes.

    With ``strict=False`` a part of it is loaded, but training is then refused.
    """
    new = f'classes.{len(adapter.classes) - 1}.'
    old = {n: t for n, t in adapter.state_dict().items() if not n.startswith(new)}
    expected = {f'{prefix}{name}': tensor for name, tensor in old.items()}
    if part_is_wanted() and not expected.keys() <= state_dict.keys():
        return
    check_fit(expected, state_dict, f'adapter that old_classes={adapter.old_classes} describes')
    adapter._lacks_old_classes = False


def _class_steps(num_classes: int, old_classes: int | Sequence[int]) -> list[int]:
    """Number of classes that each step added; the last step is the new one."""
    old = [old_classes] if isinstance(old_classes, int) else list(old_classes)
    old = [] if old == [0] else old
    steps = [*old, num_classes - sum(old)]
    if min(steps) < 1:
        raise ValueError(
            f'old_classes={old_classes} must be positive and sum to less than '
            f'num_classes={num_classes}, which counts old and new classes'
        )
    return steps
