"""tools/analysis_tools/get_flops.py: operations are those that one counts by hand."""

import re

import pytest
from commands import ROOT, tiny_ade20k

CONFIG = ROOT / 'configs/ade20k_toast_upernet.py'

# The ViT of `classifier_job`: a class token and 4 x 4 patches of 8 x 8 pixels, two classes.
DIM, HIDDEN, DEPTH, TOKENS, CLASSES = 16, 32, 2, 17, 2
EMBED = 2 * 16 * DIM * 3 * 8 * 8
BLOCK = 2 * TOKENS * (3 * DIM + DIM + 2 * HIDDEN + 2 * TOKENS) * DIM
MATRIX = 2 * TOKENS * DIM * DIM  # a matrix of channels by channels on all tokens
HEAD = 2 * DIM * CLASSES


def rows_of(out: str) -> dict[str, list[str]]:
    """Cells of the table by title."""
    lines = re.findall(r'^\| (\w.*?) +\|(.*)\|$', out, re.MULTILINE)
    return {title: [cell.strip() for cell in cells.split('|')] for title, cells in lines}


def line(flops: float, plain: float, parameters: int, tuned: int) -> list[str]:
    work = [f'{flops / 1e9:.5g}', f'{flops / plain:.2f}', f'{flops / 2e9:.5g}']
    return [*work, f'{parameters:,}', f'{tuned:,}' if tuned else '']


def test_both_passes_and_folded(tool, classifier_job, capsys):
    """By hand: W1 and W2 of the feedback and the value projection per block; folded, one."""
    tool('analysis_tools/get_flops', classifier_job)
    found = rows_of(capsys.readouterr().out)
    plain, twice = EMBED + DEPTH * BLOCK, EMBED + 2 * DEPTH * BLOCK
    folded = twice + DEPTH * MATRIX
    steered = twice + MATRIX + 3 * DEPTH * MATRIX  # and the channel transform
    weights = (3 * 8 * 8 + 1) * DIM + TOKENS * DIM + DIM + 2 * DIM  # patches, positions, class
    weights += DEPTH * (4 * DIM * DIM + 4 * DIM + 2 * DIM * HIDDEN + HIDDEN + DIM + 4 * DIM)
    topdown = DIM + DIM * DIM + 2 * DEPTH * DIM * DIM
    head = (DIM + 1) * CLASSES
    assert found == {
        'plain backbone': line(plain, plain, weights, 0),
        'backbone, both passes': line(steered, plain, weights + topdown, topdown),
        'model, both passes': line(steered + HEAD, plain, weights + topdown + head, topdown + head),
        'backbone, folded': line(folded, plain, weights + DIM + DEPTH * DIM * DIM, 0),
        'model, folded': line(folded + HEAD, plain, weights + DIM + DEPTH * DIM * DIM + head, 0),
    }


@pytest.mark.slow
def test_segmentor(tool, ade20k, capsys):
    """Its head costs the same behind both backbones; images have the size of the test's window."""
    window = {'model.test_cfg.mode': 'slide', 'model.test_cfg.crop_size': '(24,32)'}
    tool('analysis_tools/get_flops', CONFIG, *tiny_ade20k(ade20k, **window))
    out = capsys.readouterr().out
    assert 'ade20k_toast_upernet.py, one image of 24 x 32' in out
    found = {title: float(cells[0]) for title, cells in rows_of(out).items()}
    head = found['model, both passes'] - found['backbone, both passes']
    assert head > 0 and head == pytest.approx(
        found['model, folded'] - found['backbone, folded'], rel=1e-3
    )


def test_size_of_the_test_pipeline(tool, tmp_path, capsys):
    """Models of timm that take any size have no img_size."""
    job = tmp_path / 'job.py'
    backbone = dict(type='toast_mm.TOASTTimm', model_name='test_efficientnet', feedback_from=None)
    crop = [dict(type='Resize', scale=80), dict(type='mmpretrain.CenterCrop', crop_size=64)]
    job.write_text(
        "default_scope = 'mmpretrain'\n"
        f"model = dict(type='ImageClassifier', backbone={backbone})\n"
        f'test_dataloader = dict(dataset=dict(pipeline={crop}))'
    )
    tool('analysis_tools/get_flops', job)
    assert 'job.py, one image of 64 x 64' in capsys.readouterr().out


def test_other_directory_and_mistakes(tool, classifier_job, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'empty.py').write_text('a = 1')
    for arguments, sentence in [
        (['nowhere.py'], 'config file nowhere.py does not exist'),
        (['empty.py'], 'config file empty.py has no model'),
        ([classifier_job, '--cfg-options', 'model.backbone.feedback_from=9'], r'feedback_from=9'),
    ]:
        with pytest.raises(SystemExit, match=sentence):
            tool('analysis_tools/get_flops', *arguments)
    with pytest.raises(SystemExit) as exit_:
        tool('analysis_tools/get_flops', classifier_job, '--shape', '0')
    assert exit_.value.code == 2
    assert '--shape 0 must be a side' in capsys.readouterr().err
