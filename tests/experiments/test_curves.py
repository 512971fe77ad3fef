"""Curves from the scalars that runs log."""

import json

import pytest

from toast_mm.experiments.curves import read_curves


def write(folder, *records, cut=''):
    path = folder / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text('\n'.join(map(json.dumps, records)) + cut)
    return path


def step(number, loss, **more):
    return dict(loss=loss, time=0.1, iter=number, step=number, **more)


def test_resumed_training_is_one_curve(tmp_path):
    """It was cut behind step 30, resumed from 20 and logged 30 anew."""
    write(tmp_path / '20260101_000000', step(10, 3.0), step(20, 2.0), step(30, 9.0), cut='\n{"lo')
    write(tmp_path / '20260102_000000', step(30, 1.5), step(40, 1.0))
    assert read_curves(tmp_path)['loss'].points == {10: 3.0, 20: 2.0, 30: 1.5, 40: 1.0}
    # One start alone.
    assert read_curves(tmp_path / '20260102_000000')['loss'].points == {30: 1.5, 40: 1.0}


def test_a_new_training_in_the_same_folder_replaces_the_old_one(tmp_path):
    write(tmp_path / '20260101_000000', step(10, 3.0), step(20, 2.0))
    write(tmp_path / '20260102_000000', step(10, 5.0))
    assert read_curves(tmp_path)['loss'].points == {10: 5.0}


def test_units(tmp_path):
    """Validation counts epochs if training does; time is that of training."""
    log = write(tmp_path, step(8, 1.0, epoch=1), dict(accuracy=50.0, time=0.7, step=1))
    curves = read_curves(log)
    assert {key: (curve.unit, curve.points) for key, curve in curves.items()} == {
        'loss': ('iteration', {8: 1.0}),
        'time': ('iteration', {8: 0.1}),
        'accuracy': ('epoch', {1: 50.0}),
    }
    log = write(tmp_path / 'iterations', step(8, 1.0), dict(mIoU=50.0, step=8))
    assert read_curves(log)['mIoU'].unit == 'iteration'


def test_mistakes(tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere does not exist: give a work directory'):
        read_curves(tmp_path / 'nowhere')
    with pytest.raises(FileNotFoundError, match='holds no scalars of a training'):
        read_curves(tmp_path)
