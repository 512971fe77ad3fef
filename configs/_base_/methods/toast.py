"""TOAST: the backbone is frozen, feedback goes from the last layer to all layers."""

method = dict(type='toast_mm.TOASTViT', feedback_from='last', feedback_to='first')
