from pathlib import Path

import mmengine
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.fileio import LocalBackend
from mmengine.structures import PixelData
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample

from toast_mm.engine import DumpPredictions
from toast_mm.files import WriteError


def segmentation(number: int) -> SegDataSample:
    sample = SegDataSample(metainfo=dict(img_path=f'{number}.jpg', ori_shape=(2, 3)))
    sample.pred_sem_seg = PixelData(data=torch.full((1, 2, 3), number))
    sample.seg_logits = PixelData(data=torch.rand(150, 2, 3))
    sample.i_seg_logits = PixelData(data=torch.rand(1, 2, 3))
    sample.gt_sem_seg = PixelData(data=torch.zeros(1, 2, 3))
    return sample


def dump(path, samples: list) -> list:
    evaluator = Evaluator([DumpPredictions(out_file_path=str(path))])
    for sample in samples:
        evaluator.process(data_samples=[sample], data_batch=dict(inputs=[torch.rand(3, 2, 3)]))
    assert evaluator.evaluate(len(samples)) == {}
    return mmengine.load(str(path))


@pytest.mark.parametrize('suffix', ['pkl', 'pickle'])
def test_label_maps_without_logits_and_truth(tmp_path, suffix):
    path = tmp_path / f'predictions.{suffix}'
    results = dump(path, [segmentation(4), segmentation(7)])
    assert [path] == list(tmp_path.iterdir())
    for number, result in zip((4, 7), results, strict=True):
        assert result.keys() == {'img_path', 'ori_shape', 'pred_sem_seg'}
        assert (result['img_path'], result['ori_shape']) == (f'{number}.jpg', (2, 3))
        assert torch.equal(result['pred_sem_seg']['data'], torch.full((1, 2, 3), number))


def test_classification(tmp_path):
    sample = DataSample(metainfo=dict(img_path='a.jpg')).set_gt_label(1)
    sample.set_pred_score(torch.tensor([0.25, 0.75])).set_pred_label(1)
    (result,) = dump(tmp_path / 'predictions.pkl', [sample])
    assert result['pred_score'].tolist() == [0.25, 0.75]
    assert (result['pred_label'].tolist(), result['gt_label'].tolist()) == ([1], [1])


def test_predictions_stay_whole_for_other_metrics(tmp_path):
    prediction = segmentation(4).to_dict()
    before = set(prediction)
    DumpPredictions(out_file_path=str(tmp_path / 'a.pkl')).process({}, [prediction])
    assert prediction.keys() == before and 'seg_logits' in before


@pytest.mark.parametrize('former', [None, 'former results'])
def test_complete_or_absent(tmp_path, monkeypatch, former):
    """A failure in the middle leaves the old file, or none."""
    path = tmp_path / 'predictions.pkl'
    if former:
        path.write_text(former)

    def fail(self, content, filepath):
        Path(filepath).write_bytes(content[: len(content) // 2])
        raise OSError(28, 'No space left on device')

    with monkeypatch.context() as patch:
        patch.setattr(LocalBackend, 'put', fail)
        with pytest.raises(WriteError, match=rf'^{path} cannot be written: .*No space left'):
            dump(path, [segmentation(4)])
    assert not list(tmp_path.glob('*partial*'))
    assert (path.read_text() if path.exists() else None) == former
    assert len(dump(path, [segmentation(4)])) == 1
