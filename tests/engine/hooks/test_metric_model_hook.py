"""AttentionInside in runs: it gets the model, under any Runner."""

import mmengine.runner
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.model import BaseTTAModel
from mmpretrain.models import VisionTransformer
from toy_images import MEAN, SIZES, STD, PackToyImage, toy_image

from toast_mm.engine import Runner
from toast_mm.registry import TRANSFORMS

BOX = [8, 0, 16, 8]  # the second of four patches


@TRANSFORMS.register_module(force=True)
class PackBoxedToyImage(PackToyImage):
    def transform(self, results):
        packed = super().transform(results)
        packed['data_samples'].set_field(torch.tensor([BOX]), 'gt_bboxes')
        packed['data_samples'].set_metainfo(dict(img_shape=(16, 16)))
        return packed


@pytest.fixture
def job(steered_config, tmp_path):
    """Config that validates and tests by AttentionInside."""

    def make(*hooks, **settings):
        cfg = steered_config(
            tmp_path, *hooks, backbone=settings, default_hooks__checkpoint__interval=100
        )
        cfg.__dict__['_format_python_code'] = False
        for mode in ('val', 'test'):
            cfg[f'{mode}_dataloader'] = dict(
                batch_size=3,
                num_workers=0,
                sampler=dict(type='DefaultSampler', shuffle=False),
                dataset=ConfigDict(
                    type='toast_mm.ToyImages', pipeline=[dict(type='toast_mm.PackBoxedToyImage')]
                ),
            )
            cfg[f'{mode}_evaluator'] = [
                dict(type='mmpretrain.Accuracy', topk=1),
                dict(type='toast_mm.AttentionInside', block=-1),
            ]
            cfg[f'{mode}_cfg'] = dict()
        return cfg

    return make


HOOK = dict(type='toast_mm.MetricModelHook')


@torch.no_grad()
def share_in_the_last_block(backbone) -> float:
    """By mmpretrain's own ViT and the formula of attention."""
    vit = VisionTransformer(**SIZES, out_type='raw', out_indices=[2])
    vit.eval()
    state = backbone.state_dict()
    vit.load_state_dict({name: state[name] for name in vit.state_dict()})
    images = torch.stack([toy_image(number).flip(0) for number in range(7)])
    images = (images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    layer, stream = vit.layers[3], vit(images)[0]
    query, key, _ = layer.attn.qkv(layer.ln1(stream)).unflatten(-1, (3, 2, 8)).unbind(2)
    scores = torch.einsum('bqhc,bkhc->bhqk', query, key) / 8**0.5
    patches = scores.softmax(-1).mean(1)[:, 0, 1:]  # the class token asks
    return 100 * (patches[:, 1] / patches.sum(1)).mean().item()


@pytest.mark.parametrize('runner_type', [Runner, mmengine.runner.Runner])
@pytest.mark.parametrize('mode', ['test', 'val'])
def test_share_of_a_linear_probe(job, runner_type, mode):
    runner = runner_type.from_cfg(job(HOOK, feedback_from=None))
    metrics = getattr(runner, mode)()
    assert metrics['attention_inside/uniform'] == pytest.approx(25)
    expected = share_in_the_last_block(runner.model.backbone)
    assert metrics['attention_inside/first'] == pytest.approx(expected, rel=1e-4)
    assert 'attention_inside/second' not in metrics and 'accuracy/top1' in metrics


def test_after_training_it_measures_both_passes(job):
    cfg = job(HOOK)
    cfg.train_cfg.val_interval = 3
    runner = mmengine.runner.Runner.from_cfg(cfg)
    runner.train()
    metrics = runner.val_evaluator.evaluate  # evaluated and emptied
    assert metrics is not None and not runner.val_evaluator.metrics[1].results
    metrics = runner.val()
    expected = share_in_the_last_block(runner.model.backbone)
    assert metrics['attention_inside/first'] == pytest.approx(expected, rel=1e-4)
    assert 0 < metrics['attention_inside/second'] < 100


def test_without_the_hook(job):
    runner = mmengine.runner.Runner.from_cfg(job())
    with pytest.raises(ValueError, match=r'add dict\(type=.toast_mm\.MetricModelHook'):
        runner.test()


class Views(BaseTTAModel):
    def merge_preds(self, data_samples_list):
        return [views[0] for views in data_samples_list]


def test_several_views_of_an_image(job):
    runner = mmengine.runner.Runner.from_cfg(job(HOOK))
    runner.model = Views(runner.model)
    with pytest.raises(ValueError, match='test-time augmentation shows the model several views'):
        runner.test()
