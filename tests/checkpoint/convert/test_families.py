"""Models that compute something else than mmpretrain's are refused, even if their weights fit.

For each family of timm, with and without timm's model: the converted features equal timm's, or the
conversion is refused.
"""

import pytest
import timm
import torch
from mmpretrain.models import ConvNeXt, VisionTransformer

from toast_mm.checkpoint import CheckpointError
from toast_mm.checkpoint.convert import convert_convnext, convert_vit
from toast_mm.checkpoint.convert.reference import build_timm

SMALL_VIT = dict(img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, num_classes=5)
SMALL_CONVNEXT = dict(depths=(1, 2, 1, 1), dims=(8, 12, 16, 20), num_classes=5)
UNTOLD, NO_PLACE, DIFFER = 'do not show', 'which has no place for its weights: ', 'features differ'

# Errors of the conversion without and with timm's model; None if it converts.
VITS = {
    'vit_tiny_patch16_224': (None, None),
    'deit3_small_patch16_224': (None, None),
    'vit_small_patch14_dinov2': (None, None),
    'vit_base_patch16_clip_224': (UNTOLD, None),  # another epsilon
    'vit_base_patch16_clip_quickgelu_224': (UNTOLD, None),
    'vit_base_patch16_siglip_224': (UNTOLD, None),  # pools by attention
    'eva_large_patch14_196': (UNTOLD, None),  # its norm follows the pooling
    'vit_pe_core_tiny_patch16_384': (UNTOLD, DIFFER),  # rotary positions, as in the next ones
    'vit_pe_spatial_tiny_patch16_512': (UNTOLD, DIFFER),
    'vit_small_patch16_rope_ape_224': (UNTOLD, DIFFER),
    'vit_small_patch16_rope_mixed_ape_224': (NO_PLACE + r'rope\.freqs$',) * 2,
    'vit_base_patch16_rpn_224': (UNTOLD, DIFFER),  # norms after the layers
    'beit_base_patch16_224': (NO_PLACE + r'blocks\.0\.attn\.q_bias, ',) * 2,
    'beit3_base_patch16_224': (NO_PLACE + r'blocks\.0\.attn\.norm\.weight, ',) * 2,
    'vit_giant_patch14_dinov2': (r'mlp\.fc2\.weight is',) * 2,  # gated
    'vit_small_patch14_reg4_dinov2': ('register token',) * 2,
}
CONVNEXTS = {
    'convnext_tiny': (None, None),
    'convnextv2_atto': (None, None),
    'convnext_xxlarge': (UNTOLD, None),  # another epsilon
    'test_convnext': (UNTOLD, None),  # another activation, too
    'convnext_atto_rms': ('lacks weights: ',) * 2,
    'convnext_atto_ols': (NO_PLACE + r'stem\.2\.weight, ',) * 2,
    'convnext_tiny_hnf': (NO_PLACE + r'norm_pre\.weight, ',) * 2,
}
OWN_SIZES = {  # by which convert_convnext recognises them
    'convnext_xxlarge': dict(depths=(3, 4, 30, 3)),
    'test_convnext': dict(dims=(24, 32, 48, 64)),
}
KINDS = {
    'vit': (VITS, SMALL_VIT, convert_vit, VisionTransformer, 32),
    'convnext': (CONVNEXTS, SMALL_CONVNEXT, convert_convnext, ConvNeXt, 64),
}


def features_of(model, image):
    output = model.forward_features(image)
    if output.ndim == 4:
        output = model.head.norm(model.head.global_pool(output)).flatten(1)
    return output


@pytest.mark.parametrize('told', [False, True], ids=['alone', 'with timm'])
@pytest.mark.parametrize(('kind', 'name'), [(k, n) for k in KINDS for n in KINDS[k][0]])
def test_same_features_or_refused(kind, name, told):
    families, sizes, convert, backbone, side = KINDS[kind]
    torch.manual_seed(0)
    model = timm.create_model(name, **sizes | OWN_SIZES.get(name, {})).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    weights = {weight: tensor.clone() for weight, tensor in model.state_dict().items()}
    complaint = families[name][told]
    if complaint:
        with pytest.raises(CheckpointError, match=complaint):
            convert(weights, reference=model if told else None).check_whole()
        return
    converted = convert(weights, reference=model if told else None)
    converted.check_whole()
    settings = dict(converted.settings)
    if kind == 'vit':
        settings |= dict(arch=dict(settings['arch'], num_heads=3), out_type='raw')
        assert converted.settings['arch']['num_heads'] == (3 if told else '?')
    own = backbone(**settings)
    own.eval()
    start = 'backbone.'
    own.load_state_dict(
        {n.removeprefix(start): t for n, t in converted.weights.items() if n.startswith(start)}
    )
    image = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    model.float()
    with torch.no_grad():
        expected, given = features_of(model, image), own(image)[0]
    assert (given - expected).abs().max() <= 1e-5 * expected.abs().max()
    heads = {
        'eva_large_patch14_196',
        'vit_base_patch16_siglip_224',
    }  # after a layer that cannot be converted
    assert any(n.startswith('head.') for n in converted.weights) == (name not in heads)


def test_weights_of_another_model_than_the_named_one():
    weights = timm.create_model('vit_tiny_patch16_224', **SMALL_VIT).state_dict()
    other = timm.create_model('deit3_small_patch16_224', **SMALL_VIT)
    with pytest.raises(
        CheckpointError, match=r'not belong to deit3.*: they lack: blocks\.0\.ls1\.gamma'
    ):
        convert_vit(weights, reference=other)
    with pytest.raises(CheckpointError, match='--timm vit_b16: Unknown model'):
        build_timm('vit_b16')


def test_the_reference_takes_the_size_and_the_preprocessing_is_that_of_timm():
    small = timm.create_model('vit_tiny_patch16_224.augreg_in21k', **dict(SMALL_VIT, img_size=48))
    other = timm.create_model('vit_tiny_patch16_224.augreg_in21k', **SMALL_VIT)
    converted = convert_vit(small.state_dict(), img_size=64, reference=other)
    assert converted.settings['img_size'] == 64
    assert converted.preprocessing['mean'] == [127.5] * 3
    assert not converted.caveat
    assert 'compares its features' in convert_vit(small.state_dict()).caveat
