"""The top-down module: everything that TOAST adds to a backbone and tunes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from .feedback import FeedbackPath, Size
from .low_rank import LowRankUpdate
from .selection import FeatureSelection


class TopDown(nn.Module):
    """Feature selection followed by a feedback path.

    Args:
        selection: Selects from the read-out.
        feedback: Maps the selected features to one signal per receiving block.
        channel_selection: If False, only the task embedding is tuned. The
            channel transform and the feedback path, which selects channels as
            well, stay frozen at their loaded values (ablation "w/o channel att"
            of table 7). Defaults to True.
        lite: Rank and alpha of the low-rank updates that are tuned in place of
            the weights of the feedback path (TOAST-Lite); see
            :meth:`FeedbackPath.add_low_rank`. None tunes the weights.

    Raises:
        ValueError: ``lite`` is given although the feedback path is not tuned,
            or has an unknown entry.
    """

    feedback: Any  # a FeedbackPath or a FoldedFeedback

    def __init__(
        self,
        selection: FeatureSelection,
        feedback: FeedbackPath,
        channel_selection: bool = True,
        lite: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if lite is not None:
            if not channel_selection:
                raise ValueError(
                    f'lite={dict(lite)} tunes the feedback path, which channel_selection=False '
                    'freezes: leave one of them out'
                )
            if unknown := lite.keys() - {'rank', 'alpha'}:
                names = ', '.join(sorted(unknown))
                raise ValueError(f'lite={dict(lite)}: {names} is unknown; there are rank and alpha')
            feedback.add_low_rank(**lite)
        self.selection = selection
        self.feedback = feedback
        if not channel_selection:
            selection.channel_transform.requires_grad_(False)
            feedback.requires_grad_(False)

    @property
    def lite(self) -> bool:
        """Whether low-rank updates of the feedback path are tuned in place of its weights."""
        return any(isinstance(module, LowRankUpdate) for module in self.modules())

    def forward(
        self,
        z: Tensor,
        features: Tensor | None = None,
        sizes: Mapping[int, Size] | None = None,
    ) -> dict[int, Tensor]:
        """Read-out to one signal per receiving block.

        Args:
            z: Read-out from which the mask is computed, channels last:
                ``(B, N, C)`` or ``(B, H, W, C)``.
            features: Features to select from instead of the read-out.
            sizes: Height and width of the map that each signal is added to; see
                :class:`FeedbackPath`.
        """
        return self.feedback(self.selection(z, features), sizes)
