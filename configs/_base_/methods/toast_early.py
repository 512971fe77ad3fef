"""TOAST-Early: feedback from the middle layer to those below it; better for dense tasks."""

method = dict(type='toast_mm.TOASTViT', feedback_from='middle', feedback_to='first')
