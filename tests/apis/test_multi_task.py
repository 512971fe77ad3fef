"""Several tasks together: the same predictions as each task alone, in fewer passes."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample

from toast_mm.apis import MultiTask
from toast_mm.checkpoint import CheckpointError
from toast_mm.models import TOASTViT

DEPTH, CLASSES = 4, 3
SIZES = dict(
    arch=dict(embed_dims=16, num_layers=DEPTH, num_heads=2, feedforward_channels=32),
    img_size=32,
    patch_size=8,
)
METHODS = {
    'last': dict(feedback_from='last'),
    'other': dict(feedback_from='last'),
    'third': dict(feedback_from='last'),
    'early': dict(feedback_from='middle'),
    'late': dict(feedback_from='last', feedback_to='middle'),
    'head': dict(feedback_from=None),
    'lora': dict(feedback_from=None, tuning=dict(type='toast_mm.LoRA')),
    'dora': dict(
        feedback_from=None,
        tuning=dict(type='toast_mm.PEFT', config=dict(peft_type='LORA', use_dora=True)),
    ),
    'bitfit': dict(feedback_from='last', tuning=dict(type='toast_mm.BitFit')),
    'coarse': dict(first_pass=dict(scale=0.5)),
    'coarse late': dict(feedback_to='middle', first_pass=dict(scale=0.5)),
    'coarser': dict(first_pass=dict(scale=0.25)),
}


def config(mean=127.5, **backbone) -> Config:
    return Config(
        dict(
            default_scope='mmpretrain',
            model=dict(
                type='ImageClassifier',
                backbone=dict(type='toast_mm.TOASTViT', **SIZES, **backbone),
                head=dict(type='VisionTransformerClsHead', num_classes=CLASSES, in_channels=16),
                data_preprocessor=dict(mean=[mean] * 3, std=[127.5] * 3, to_rgb=True),
            ),
        )
    )


def save(path: Path, cfg: Config, seed: int, base_seed: int = 0) -> str:
    """Save a model: one seed draws the base, another one everything else."""
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
    for number, offset in ((base_seed, 0), (seed, 100)):
        torch.manual_seed(number + offset)
        for name, parameter in model.named_parameters():
            inner = name.removeprefix('backbone.')
            base = inner != name and model.backbone.is_base(inner)
            if base != bool(offset):
                torch.nn.init.normal_(parameter, std=0.3)
    meta = dict(dataset_meta=dict(classes=[f'{seed}{c}' for c in range(CLASSES)]))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
    return str(path)


@pytest.fixture
def tasks(tmp_path):
    """Build tasks with these methods."""

    def load(*names):
        tasks = MultiTask()
        for name in names:
            cfg = config(**METHODS[name])
            seed = list(METHODS).index(name)
            tasks.add(name, cfg, save(tmp_path / f'{name}.pth', cfg, seed))
        return tasks

    return load


def batch():
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (2, 3, 32, 32), generator=generator)
    return dict(inputs=list(images.to(torch.uint8)), data_samples=[DataSample(), DataSample()])


@pytest.mark.parametrize('names', [('coarse', 'coarse late'), ('coarse', 'head', 'coarse late')])
def test_the_shared_first_pass_is_the_coarse_one(tasks, names):
    together, lengths = tasks(*names), []
    for layer in together['coarse'].backbone.layers:
        layer.register_forward_hook(lambda layer, inputs, _: lengths.append(inputs[0].shape[1]))
    for layer in together['coarse late'].backbone.layers:
        layer.register_forward_hook(lambda layer, inputs, _: lengths.append(inputs[0].shape[1]))
    together(batch())
    assert sorted(lengths) == [1 + 4] * DEPTH + [1 + 16] * 2 * DEPTH


def count_blocks(tasks):
    """Count the calls of encoder layers from now on."""
    calls = []
    layers = {id(layer): layer for model in tasks.values() for layer in model.backbone.layers}
    for layer in layers.values():
        layer.register_forward_hook(lambda *_: calls.append(1))
    return calls


@pytest.mark.parametrize(
    ('names', 'blocks'),
    [
        (('last', 'other'), 3 * DEPTH),  # 1 + T passes
        (('last', 'other', 'third'), 4 * DEPTH),
        (('last', 'early', 'late', 'head'), DEPTH + DEPTH + DEPTH + DEPTH // 2),
        (('head', 'early'), DEPTH + DEPTH),
        (('last', 'lora', 'bitfit'), 2 * DEPTH + DEPTH + 2 * DEPTH),  # two that tune the base
        (('last', 'dora'), 2 * DEPTH + DEPTH),
        (('coarse', 'coarse late'), 3 * DEPTH),  # the late route shares no block with it
        (('coarse', 'last', 'coarse late', 'early', 'head', 'coarser'), 8 * DEPTH),
    ],
)
def test_several_at_once_predict_as_each_alone(tasks, names, blocks):
    together = tasks(*names)
    alone = {name: tasks(name)[name].test_step(batch()) for name in names}
    calls = count_blocks(together)
    predictions = together(batch())
    assert len(calls) == blocks
    assert list(predictions) == list(names)
    scores = []
    for name in names:
        for one, other in zip(predictions[name], alone[name], strict=True):
            assert torch.equal(one.pred_score, other.pred_score)
            scores.append(one.pred_score)
    assert len({tuple(score.tolist()) for score in scores}) == len(scores)


def test_tasks_that_see_other_images_run_alone(tasks, tmp_path):
    together = tasks('last', 'other')
    cfg = config(mean=90.0, feedback_from='middle')
    together.add('darker', cfg, save(tmp_path / 'darker.pth', cfg, seed=9))
    expected = {name: model.test_step(batch()) for name, model in together.items()}
    calls = count_blocks(together)
    predictions = together(batch())
    assert len(calls) == 3 * DEPTH + DEPTH // 2 + DEPTH
    for name, samples in expected.items():
        assert torch.equal(predictions[name][0].pred_score, samples[0].pred_score)


def test_tasks_with_other_positions_run_alone(tasks, tmp_path):
    together = tasks('last', 'other')
    cfg = config(feedback_from='last')
    file = save(tmp_path / 'moved.pth', cfg, seed=9)
    weights = torch.load(file)
    weights['state_dict']['backbone.pos_embed'] += 1
    torch.save(weights, file)
    together.add('moved', cfg, file)
    expected = {name: model.test_step(batch()) for name, model in together.items()}
    calls = count_blocks(together)
    predictions = together(batch())
    assert len(calls) == 3 * DEPTH + 2 * DEPTH
    for name, samples in expected.items():
        assert torch.equal(predictions[name][0].pred_score, samples[0].pred_score)


def test_sliding_windows_do_not_share_a_first_pass(tasks):
    """The first pass of the whole image is not that of a window."""
    together = tasks('last', 'other')
    for model in together.values():
        model.test_cfg = dict(mode='slide')  # as in a segmentor
    calls = count_blocks(together)
    together(batch())
    assert len(calls) == 4 * DEPTH


def test_preprocessor_beside_the_model(tmp_path):
    """As in mmpretrain's own configs."""
    cfg = config(feedback_from='last')
    file = save(tmp_path / 'task.pth', cfg, seed=1)
    tasks = MultiTask()
    tasks.add('inside', cfg, file)
    cfg.data_preprocessor = cfg.model.pop('data_preprocessor')
    tasks.add('beside', cfg, file)
    one, other = (tasks[name].test_step(batch())[0].pred_score for name in tasks)
    assert torch.equal(one, other)


def test_one_by_name(tasks):
    both = tasks('last', 'other')
    expected = both['other'].test_step(batch())
    calls = count_blocks(both)
    (predictions,) = both(batch(), ['other']).items()
    assert predictions[0] == 'other' and len(calls) == 2 * DEPTH
    assert torch.equal(predictions[1][0].pred_score, expected[0].pred_score)
    assert both['other'].dataset_meta['classes'] == ['10', '11', '12']
    with pytest.raises(KeyError, match="there is no task 'birds'; there are: last, other"):
        both(batch(), ['birds'])


def test_the_base_is_in_memory_once(tasks):
    together = tasks('last', 'early', 'bitfit')
    own = [dict(model.backbone.named_parameters()) for model in together.values()]
    for name, parameter in own[0].items():
        if not name.startswith('topdown.'):
            assert own[1][name] is parameter
            assert (own[2][name] is parameter) == (not name.endswith('.bias'))


def test_the_next_images_have_a_first_pass_of_their_own(tasks):
    together = tasks('last', 'early')
    first = together(batch())
    other = batch()
    other['inputs'] = [255 - image for image in other['inputs']]
    second = together(other)
    expected = tasks('early')['early'].test_step(dict(other))
    assert torch.equal(second['early'][0].pred_score, expected[0].pred_score)
    assert not torch.equal(second['early'][0].pred_score, first['early'][0].pred_score)


def test_what_does_not_fit_says_so(tasks, tmp_path):
    present = tasks('last')
    cfg = config(feedback_from='middle')
    file = save(tmp_path / 'early.pth', cfg, seed=1)
    with pytest.raises(ValueError, match="there is a task 'last' already"):
        present.add('last', cfg, file)
    foreign = save(tmp_path / 'foreign.pth', cfg, seed=1, base_seed=5)
    with pytest.raises(ValueError, match="'new' was tuned on another backbone than task 'last'"):
        present.add('new', cfg, foreign)
    heads = config(feedback_from='last')
    heads.model.backbone.arch.num_heads = 4
    with pytest.raises(ValueError, match="'new' has another architecture than task 'last'"):
        present.add('new', heads, save(tmp_path / 'heads.pth', heads, seed=1))
    with pytest.raises((CheckpointError, RuntimeError), match='topdown'):
        present.add('new', config(feedback_from='last'), file)
    plain = config()
    plain.model.backbone = dict(type='VisionTransformer', **SIZES)
    with pytest.raises(ValueError, match='VisionTransformer cannot share its first pass'):
        present.add('new', plain, file)
    assert list(present) == ['last']


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            dict(norm_cfg=dict(type='LN', eps=0.3)),
            r'ln1 is a norm with eps=0\.3, but a norm with eps=1e-06',
        ),
        (dict(arch__num_layers=3), 'is a TOASTViT of 3 blocks, but a TOASTViT of 4 blocks'),
        (
            dict(layer_cfgs=dict(act_cfg=dict(type='ReLU'))),
            r'layers\.0\.ffn\..* is a ReLU, but a GELU',
        ),
    ],
)
def test_settings_that_shapes_do_not_show_are_compared(tasks, tmp_path, change, message):
    present = tasks('head')
    cfg = config(feedback_from=None)
    cfg.merge_from_dict({f'model.backbone.{k.replace("__", ".")}': v for k, v in change.items()})
    with pytest.raises(ValueError, match=message):
        present.add('new', cfg, save(tmp_path / 'new.pth', cfg, seed=1))


@pytest.mark.parametrize('order', [('last', 'bitfit'), ('bitfit', 'last')])
def test_folded_before(order, tasks):
    """Tuned parameters are not part of the base, although nothing trains any more."""
    separate = {name: tasks(name)[name] for name in order}
    for name, parameter in separate['bitfit'].backbone.named_parameters():
        if parameter.requires_grad and not name.startswith('topdown.'):
            parameter.data += 0.1
    expected = {name: model.test_step(batch()) for name, model in separate.items()}
    together = MultiTask()
    for name, model in separate.items():
        model.backbone.fold()
        together.add_model(name, model)
    for name, samples in together(batch()).items():
        torch.testing.assert_close(samples[0].pred_score, expected[name][0].pred_score)


def test_a_classifier_beside_a_segmentor(tasks, tmp_path):
    together = tasks('last')
    cfg = Config(
        dict(
            default_scope='mmseg',
            model=dict(
                type='EncoderDecoder',
                data_preprocessor=dict(
                    type='SegDataPreProcessor',
                    mean=[127.5] * 3,
                    std=[127.5] * 3,
                    bgr_to_rgb=True,
                    test_cfg=dict(size_divisor=32),
                ),
                backbone=dict(type='toast_mm.TOASTViT', **SIZES, out_type='featmap'),
                decode_head=dict(
                    type='FCNHead', in_channels=16, channels=8, num_classes=4, in_index=0
                ),
                test_cfg=dict(mode='whole'),
            ),
        )
    )
    together.add('scene', cfg, save(tmp_path / 'scene.pth', cfg, seed=2))
    calls = count_blocks(together)
    size = dict(ori_shape=(32, 32), img_shape=(32, 32))  # as pipelines set it
    images = batch()
    images['data_samples'] = [DataSample(metainfo=size), DataSample(metainfo=size)]
    predictions = together(images)
    assert len(calls) == 3 * DEPTH
    expected = tasks('last')['last'].test_step(batch())
    assert torch.equal(predictions['last'][0].pred_score, expected[0].pred_score)
    assert predictions['scene'][0].pred_sem_seg.data.shape == (1, 32, 32)
    other_way = batch()
    other_way['data_samples'] = [SegDataSample(metainfo=size), SegDataSample(metainfo=size)]
    again = together(other_way)
    assert torch.equal(again['last'][0].pred_score, expected[0].pred_score)
    assert torch.equal(again['scene'][0].seg_logits.data, predictions['scene'][0].seg_logits.data)


def test_task_files(tasks, tmp_path):
    """A base on disk, and files that name it."""
    from toast_mm.checkpoint.adapter import frozen_base, leave_out_base, make_record

    torch.manual_seed(0)
    backbone = TOASTViT(**SIZES, feedback_from=None)
    torch.save(backbone.state_dict(), tmp_path / 'base.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'base.pth'))
    together = MultiTask()
    for name in ('last', 'early'):
        cfg = config(**METHODS[name], init_cfg=init_cfg)
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            model = MODELS.build(cfg.model)
        model.init_weights()
        weights = dict(model.state_dict())
        names = frozen_base(model.backbone)
        leave_out_base(weights, names, make_record(model.backbone, names), 'backbone.')
        torch.save(dict(state_dict=weights), tmp_path / f'{name}.pth')
        together.add(name, cfg, str(tmp_path / f'{name}.pth'))
        expected = model.eval().test_step(batch())[0].pred_score
        assert torch.equal(together[name].test_step(batch())[0].pred_score, expected)
