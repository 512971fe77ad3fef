"""What a checkpoint must hold to be loaded into a steered backbone."""

import copy
import logging

import pytest
import torch
from mmengine.model import PretrainedInit
from mmengine.runner import load_checkpoint
from mmpretrain.models import VisionTransformer

from toast_mm.checkpoint import CheckpointError
from toast_mm.models import TOASTConvNeXt, TOASTViT

ARCH = dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32)
SIZES = dict(arch=ARCH, img_size=16, patch_size=8)


@pytest.fixture
def base(tmp_path):
    """File of a trained mmpretrain ViT with a head, and the ViT."""
    torch.manual_seed(1)
    vit = VisionTransformer(**SIZES)
    for parameter in vit.parameters():
        torch.nn.init.normal_(parameter)
    state_dict = {f'backbone.{name}': tensor for name, tensor in vit.state_dict().items()}
    state_dict['head.fc.weight'] = torch.zeros(2, 16)
    torch.save({'state_dict': state_dict}, tmp_path / 'base.pth')
    return str(tmp_path / 'base.pth'), vit.state_dict()


def is_loaded(backbone, weights) -> bool:
    own = backbone.state_dict()
    return all(torch.equal(own[name], tensor) for name, tensor in weights.items())


@pytest.mark.parametrize('type_', ['Pretrained', PretrainedInit])
@pytest.mark.parametrize('as_list', [False, True])
def test_every_form_of_init_cfg_loads_every_weight(base, type_, as_list):
    """With a list, mmpretrain itself would draw the position embedding again after loading."""
    file, weights = base
    init_cfg = dict(type=type_, checkpoint=file, prefix='backbone')
    backbone = TOASTViT(**SIZES, init_cfg=[init_cfg] if as_list else init_cfg)
    assert not is_loaded(backbone, weights)
    backbone.init_weights()
    assert is_loaded(backbone, weights)


def test_init_cfg_of_a_config_that_is_inherited_by_package_name(base):
    file, weights = base
    init_cfg = dict(type='Pretrained', checkpoint=file, prefix='backbone.', _scope_='toast_mm')
    backbone = TOASTViT(**SIZES, init_cfg=init_cfg)
    backbone.init_weights()
    assert is_loaded(backbone, weights)


def test_other_initialisers_still_work(base):
    file, weights = base
    init_cfg = [
        dict(type='Constant', layer='Linear', val=7.0),
        dict(type='Pretrained', checkpoint=file, prefix='backbone.'),
    ]
    backbone = TOASTViT(**SIZES, init_cfg=init_cfg)
    backbone.init_weights()
    assert is_loaded(backbone, weights)
    backbone = TOASTViT(**SIZES, init_cfg=init_cfg[:1])
    drawn = backbone.topdown.feedback.layers['0'].emit.weight.clone()
    backbone.init_weights()
    assert (backbone.layers[0].attn.qkv.weight == 7).all()
    assert torch.equal(backbone.topdown.feedback.layers['0'].emit.weight, drawn)


def test_the_feedback_of_a_convnext_keeps_its_initialisation():
    """The parent's initialisation gives every convolution a standard deviation of 0.02."""
    sizes = dict(arch=dict(depths=[1, 1, 1, 1], channels=[16, 16, 32, 64]))
    torch.manual_seed(0)
    backbone = TOASTConvNeXt(**sizes, feedback_std=1.0)
    before = copy.deepcopy(backbone.topdown.state_dict())
    backbone.init_weights()
    assert backbone.stages[0][0].depthwise_conv.weight.std().item() == pytest.approx(0.02, rel=0.1)
    for name, tensor in backbone.topdown.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize('lite', [None, dict(rank=2)])
def test_base_and_pretuned_module_in_one_file(tmp_path, lite):
    """As a converted pre-tuned checkpoint has them; only the base is loaded for another route."""
    trained = TOASTViT(**SIZES)
    torch.save(trained.state_dict(), tmp_path / 'all.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'all.pth'))
    backbone = TOASTViT(**SIZES, init_cfg=init_cfg, pretuned=str(tmp_path / 'all.pth'), lite=lite)
    backbone.init_weights()
    for name, tensor in trained.state_dict().items():
        assert torch.equal(backbone.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    'tuning',
    [
        dict(type='toast_mm.LoRA'),
        dict(type='toast_mm.SSF'),
        dict(type='toast_mm.AdaptFormer'),
        dict(type='toast_mm.VPT', num_prompts=3),
    ],
    ids=lambda tuning: tuning['type'],
)
def test_a_tuned_backbone_is_the_base_of_a_further_training(tmp_path, tuning):
    """What the method added is loaded with the rest, and not initialised again."""
    arguments = dict(feedback_from=None, tuning=tuning)
    trained = TOASTViT(**SIZES, **arguments)
    for parameter in trained.parameters():
        torch.nn.init.normal_(parameter)
    torch.save(trained.state_dict(), tmp_path / 'all.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'all.pth'))
    backbone = TOASTViT(**SIZES, **arguments, init_cfg=init_cfg)
    backbone.init_weights()
    for name, tensor in trained.state_dict().items():
        assert torch.equal(backbone.state_dict()[name], tensor), name


def test_the_other_kind_of_backbone_is_named():
    convnext = TOASTConvNeXt(
        arch=dict(depths=[1, 1, 1, 1], channels=[4, 4, 8, 8]), feedback_from=None
    )
    vit = TOASTViT(**SIZES, feedback_from=None)
    with pytest.raises(
        CheckpointError,
        match=r'of another kind .* than TOASTViT: it holds .*stages, but not the first block',
    ):
        vit.load_state_dict(convnext.state_dict())
    with pytest.raises(
        CheckpointError,
        match=r'than TOASTConvNeXt: it holds .*layers, .*, but not the first block, downs',
    ):
        convnext.load_state_dict(vit.state_dict())


def test_loading_a_base_raises_no_false_alarm(base, caplog):
    file, _ = base
    backbone = TOASTViT(
        **SIZES, init_cfg=dict(type='Pretrained', checkpoint=file, prefix='backbone.')
    )
    with caplog.at_level(logging.WARNING):
        backbone.init_weights()
    assert not caplog.records


def test_a_misspelt_key_of_init_cfg_is_an_error(base):
    backbone = TOASTViT(
        **SIZES, init_cfg=dict(type='Pretrained', checkpoint=base[0], prefixes='backbone.')
    )
    with pytest.raises(CheckpointError, match=r"^init_cfg=.*'prefixes'.* and nothing else"):
        backbone.init_weights()


@pytest.mark.parametrize(
    'other, sentence',
    [
        (dict(feedback_from='middle'), r'missing: topdown\.feedback\.layers\.2\.descend'),
        (dict(feedback_from='last'), None),
        (dict(feedback_from=None), None),
    ],
)
def test_the_module_of_a_task_must_fit_for_every_way_of_loading(tmp_path, other, sentence):
    torch.save(TOASTViT(**SIZES, **other).state_dict(), tmp_path / 'task.pth')
    backbone = TOASTViT(**SIZES)
    if sentence is None:
        load_checkpoint(backbone, str(tmp_path / 'task.pth'))
    else:
        with pytest.raises(CheckpointError, match=sentence):
            load_checkpoint(backbone, str(tmp_path / 'task.pth'))


def test_the_module_of_a_longer_route_is_refused(tmp_path):
    torch.save(TOASTViT(**SIZES).state_dict(), tmp_path / 'task.pth')
    backbone = TOASTViT(**SIZES, feedback_from='middle')
    with pytest.raises(CheckpointError, match=r'more than this backbone has: topdown\..*layers\.2'):
        load_checkpoint(backbone, str(tmp_path / 'task.pth'))


def test_a_part_is_loaded_with_strict_false():
    """One tensor, a plain backbone, a module of another route, of one block less, of TOAST-Lite."""
    backbone = TOASTViT(**SIZES)
    own = set(backbone.state_dict())
    name = 'topdown.selection.task_embedding'
    for part in (
        {name: torch.full((16,), 2.0)},
        {},
        VisionTransformer(**SIZES).state_dict(),
        TOASTViT(**SIZES, feedback_from='middle').state_dict(),
        TOASTViT(**SIZES, lite=dict(rank=2)).state_dict(),
        {n: t for n, t in backbone.state_dict().items() if not n.startswith('layers.3.')},
    ):
        keys = backbone.load_state_dict(part, strict=False)
        assert set(keys.missing_keys) == own - part.keys()
        assert set(keys.unexpected_keys) == part.keys() - own
        assert all(torch.equal(backbone.state_dict()[n], part[n]) for n in own & part.keys())
        assert not backbone.folded
    with pytest.raises(RuntimeError, match=r'size mismatch for topdown\.selection\.task_embedding'):
        backbone.load_state_dict({name: torch.zeros(8)}, strict=False)


@pytest.mark.parametrize(
    ('change', 'sentence'),
    [
        (lambda t: t * float('nan'), r'256 of 256 values of layers\.1\.attn\.proj\.weight are not'),
        (lambda t: (t * 10).to(torch.int8), r'of another type: .*proj\.weight torch\.int8 instead'),
        (lambda t: None, r'of another type: .*proj\.weight NoneType instead of torch\.float32'),
    ],
)
def test_a_base_of_other_numbers_is_refused(base, change, sentence):
    file, weights = base
    name = 'layers.1.attn.proj.weight'
    torch.save({'state_dict': {**weights, name: change(weights[name])}}, file)
    backbone = TOASTViT(**SIZES, init_cfg=dict(type='Pretrained', checkpoint=file))
    with pytest.raises(CheckpointError, match=rf'^init_cfg with .*base\.pth.*{sentence}'):
        backbone.init_weights()


@pytest.mark.parametrize('bands', [3, 6])
@pytest.mark.parametrize('stem', [None, 'text'])
def test_a_stem_that_is_no_tensor_is_named(base, bands, stem):
    file, weights = base
    name = 'patch_embed.projection.weight'
    torch.save({'state_dict': {**weights, name: stem}}, file)
    init_cfg = dict(type='Pretrained', checkpoint=file)
    backbone = TOASTViT(**SIZES, in_channels=bands, init_cfg=init_cfg)
    what = type(stem).__name__
    with pytest.raises(CheckpointError, match=rf'of another type: {name} {what} instead of torch'):
        backbone.init_weights()


def test_a_tensor_of_another_shape_and_type_is_counted_once(base):
    file, weights = base
    name = 'layers.1.attn.proj.weight'
    torch.save({'state_dict': {**weights, name: torch.zeros(3, dtype=torch.int8)}}, file)
    backbone = TOASTViT(**SIZES, init_cfg=dict(type='Pretrained', checkpoint=file))
    with pytest.raises(CheckpointError) as error:
        backbone.init_weights()
    assert f'covers {len(weights) - 1} of {len(weights)} tensors' in str(error.value)
    assert f'of another shape: {name} (3,)' in str(error.value)
    assert f'of another type: {name} torch.int8' in str(error.value)


def test_the_weights_of_a_base_are_read_to_the_place_that_init_cfg_names(base):
    file, weights = base
    read = []

    def place(storage, location):
        read.append(location)
        return storage

    init_cfg = dict(type='Pretrained', checkpoint=file, prefix='backbone', map_location=place)
    backbone = TOASTViT(**SIZES, init_cfg=init_cfg)
    backbone.init_weights()
    assert is_loaded(backbone, weights)
    assert read == (len(weights) + 1) * ['cpu']  # also of the head


@pytest.mark.parametrize('argument', [dict(further=1), dict(prefix=5)])
def test_arguments_that_init_cfg_has_not(base, argument):
    init_cfg = dict(type='Pretrained', checkpoint=base[0], **argument)
    backbone = TOASTViT(**SIZES, init_cfg=init_cfg)
    with pytest.raises(CheckpointError, match=r'^init_cfg=\{.*must have a file as checkpoint'):
        backbone.init_weights()
