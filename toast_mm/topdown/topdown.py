"""The top-down module: everything that TOAST adds to a backbone and tunes."""

from torch import Tensor, nn

from .selection import FeatureSelection


class TopDown(nn.Module):
    """Feature selection followed by a feedback path.

    Args:
        selection: Selects from the read-out.
        feedback: Maps the selected features to one signal per receiving block.
        channel_selection: If False, the channel transform and the whole
            feedback path, which selects channels as well, stay frozen at their
            loaded values and only the task embedding is tuned (ablation "w/o
            channel att" of table 7). Defaults to True.
    """

    def __init__(
        self, selection: FeatureSelection, feedback: nn.Module, channel_selection: bool = True
    ) -> None:
        super().__init__()
        self.selection = selection
        self.feedback = feedback
        if not channel_selection:
            self.selection.channel_transform.requires_grad_(False)
            self.feedback.requires_grad_(False)

    def forward(self, z: Tensor) -> dict[int, Tensor]:
        """Read-out ``(B, N, C)`` to ``{block: signal}``."""
        return self.feedback(self.selection(z))
