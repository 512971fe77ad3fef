import pytest
import torch


@pytest.fixture
def image():
    generator = torch.Generator().manual_seed(7)
    return torch.randn(2, 3, 32, 32, dtype=torch.double, generator=generator)
