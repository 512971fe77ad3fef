"""The page of ``tools/demo.py``: predictions and attention of task files in a browser.

``page`` and ``server`` need the extra ``demo``, the other modules do not.
"""

from toast_mm.imports import quiet_imports

with quiet_imports():
    from .answers import Answer, answer
    from .task_files import TaskFiles, find_task_files
    from .uploads import Limits, RequestLimit, UploadError, read_upload

__all__ = [
    'Answer',
    'Limits',
    'RequestLimit',
    'TaskFiles',
    'UploadError',
    'answer',
    'find_task_files',
    'read_upload',
]
