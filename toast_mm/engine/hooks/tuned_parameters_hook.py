"""Recording how many parameters a training tunes."""

import json
from pathlib import Path

from mmengine.dist import master_only
from mmengine.runner import Runner

from toast_mm.engine.hooks.single_hook import SingleHook
from toast_mm.engine.model import unwrap
from toast_mm.files import write_atomically
from toast_mm.registry import HOOKS

# Name of the file next to the logs; the count is without the head.
TUNED = 'tuned_parameters.json'


@HOOKS.register_module()
class TunedParametersHook(SingleHook):
    """Write the number of tuned backbone parameters to a file next to the logs.

    Tables of results read this file. A model without a backbone gets none. ``toast_mm.Runner``
    always adds this hook.
    """

    @master_only
    def before_train(self, runner: Runner) -> None:
        """Write the file."""
        backbone = getattr(unwrap(runner.model), 'backbone', None)
        if backbone is not None:
            tuned = sum(p.numel() for p in backbone.parameters() if p.requires_grad)
            path = Path(runner.log_dir, 'vis_data', TUNED)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(json.dumps({'backbone': tuned}).encode(), str(path))
