"""TOAST-Late: feedback from the last layer to the upper half; the lower half runs once."""

method = dict(type='toast_mm.TOASTViT', feedback_from='last', feedback_to='middle')
