"""Everything is tuned, without a top-down module."""

method = dict(type='toast_mm.TOASTViT', feedback_from=None, frozen=False)
