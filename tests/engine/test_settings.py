from toast_mm.engine.settings import differences, read_settings

TEXT = """
lr = 1e-3
optimizer = dict(betas=(0.9, 0.99), lr=-lr, type='SGD')
hooks = [dict(type='A'), {'type': 'B', 'n': None}]
evil = __import__('os').mkdir('proof')
"""


def test_settings_are_read_and_nothing_is_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_settings(TEXT) == dict(
        lr=1e-3,
        optimizer=dict(betas=[0.9, 0.99], lr='-lr', type='SGD'),
        hooks=[dict(type='A'), dict(type='B', n=None)],
        evil="__import__('os').mkdir('proof')",
    )
    assert not (tmp_path / 'proof').exists()


def test_differences():
    former = dict(a=1, b=dict(c=[1, 2], d='x'), gone=3)
    present = dict(a=1, b=dict(c=[1, 5], d='x'), new=dict(e=1))
    assert list(differences(former, present, 'all')) == [
        ('all.b.c[1]', 2, 5),
        ('all.gone', 3, None),
        ('all.new', None, dict(e=1)),
    ]
