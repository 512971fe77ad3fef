"""A note of how many parameters a training tunes."""

import json
from pathlib import Path

from mmengine.dist import master_only
from mmengine.runner import Runner

from toast_mm.engine.hooks.single_hook import SingleHook
from toast_mm.engine.model import unwrap
from toast_mm.files import write_atomically
from toast_mm.registry import HOOKS

# Beside the logs of a training: the number of its tuned parameters, without those of the head.
TUNED = 'tuned_parameters.json'


@HOOKS.register_module()
class TunedParametersHook(SingleHook):
    """Note beside the logs how many parameters of the backbone are tuned.

    Tables of results read the note. A model without a backbone gets none. ``toast_mm.Runner``
    has this hook always.
    """

    @master_only
    def before_train(self, runner: Runner) -> None:
        """Write the note."""
        backbone = getattr(unwrap(runner.model), 'backbone', None)
        if backbone is not None:
            tuned = sum(p.numel() for p in backbone.parameters() if p.requires_grad)
            path = Path(runner.log_dir, 'vis_data', TUNED)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(json.dumps({'backbone': tuned}).encode(), str(path))
