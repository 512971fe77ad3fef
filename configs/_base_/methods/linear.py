"""The head alone is tuned, on the frozen backbone."""

method = dict(type='toast_mm.TOASTViT', feedback_from=None)
