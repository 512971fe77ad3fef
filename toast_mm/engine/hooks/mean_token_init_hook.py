"""Initialising the task embedding with the mean token."""

import torch
from mmengine.dist import all_reduce, get_rank, get_world_size
from mmengine.runner import Runner

from toast_mm.datasets import DefaultSampler, DrawnIndex, InfiniteSampler, fetch
from toast_mm.engine.hooks.single_hook import SingleHook
from toast_mm.engine.model import steered_backbone, unwrap
from toast_mm.registry import HOOKS


@HOOKS.register_module()
class MeanTokenInitHook(SingleHook):
    """Set the task embedding to the mean of the tokens that it selects from.

    A random embedding is nearly orthogonal to every token. Its mask is 0 for
    half of the tokens, or for all of them if they resemble each other, and a
    token with mask 0 gives the embedding no gradient. The mean token has a
    positive cosine with most tokens. A resumed training keeps its embedding.

    Args:
        num_batches: Training batches to take the mean of. A batch holds the samples of all
            processes, which share the work. Defaults to 4.
    """

    def __init__(self, num_batches: int = 4) -> None:
        if num_batches < 1:
            raise ValueError(f'num_batches={num_batches} must be at least 1')
        self.num_batches = num_batches

    def before_train(self, runner: Runner) -> None:
        """Run the first pass on samples spread over the training data."""
        if runner.iter > 0:
            return
        backbone = steered_backbone(runner.model)
        if backbone is None:
            raise ValueError('MeanTokenInitHook: the backbone has no top-down module')
        loader = runner.train_dataloader
        processes = get_world_size()
        number = min(self.num_batches * loader.batch_size * processes, len(loader.dataset))
        indices = torch.linspace(0, len(loader.dataset) - 1, number).long().tolist()
        if isinstance(loader.sampler, (DefaultSampler, InfiniteSampler)):
            # Does not use the sampler, whose draws belong to the training.
            indices = [DrawnIndex(index, (runner.seed, n)) for n, index in enumerate(indices)]
        indices = indices[get_rank() :: processes]
        embedding = backbone.topdown.selection.task_embedding
        sums, count = [], torch.tensor(0, device=embedding.device)
        for start in range(0, len(indices), loader.batch_size):
            samples = fetch(loader.dataset, indices[start:][: loader.batch_size])
            batch = loader.collate_fn(samples)
            images = unwrap(runner.model).data_preprocessor(batch, True)['inputs']
            with torch.no_grad(), backbone.recording() as record:
                backbone(images)
            sums.append(record.z.flatten(0, -2).sum(0))
            count += record.z[..., 0].numel()
        # With more processes than samples, some have none.
        total = torch.stack(sums).sum(0) if sums else torch.zeros_like(embedding.data)
        all_reduce(total)
        all_reduce(count)
        embedding.data.copy_(total / count)
        runner.logger.info(f'The task embedding is the mean of {count} tokens of {number} images')
