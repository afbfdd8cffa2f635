import pytest
import torch
from torch import nn

from twophase.kernels import entk
from twophase.models import initialised


def _double(architecture, seed=0):
    return initialised({"architecture": architecture}, 1, 10, seed).double()


def _inputs(n=5):
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(n)).double()


def _by_loops(model, inputs):
    """The definition, one gradient at a time."""
    rows = []
    for x in inputs:
        for logit in model.eval()(x[None])[0]:
            gradients = torch.autograd.grad(logit, list(model.parameters()), retain_graph=True)
            rows.append(torch.cat([g.flatten() for g in gradients]))
    rows = torch.stack(rows)
    return rows @ rows.T


def test_the_kernel_of_a_linear_model_is_the_inputs_gram_matrix():
    inputs = torch.randn(6, 7).double()
    kernel = entk(nn.Linear(7, 3, bias=False).double(), inputs)
    expected = torch.kron(inputs @ inputs.T, torch.eye(3).double())
    assert torch.allclose(kernel, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("architecture", ["resnet8", "vgg_small"])
def test_the_kernel_is_the_definitions(architecture):
    model, inputs = _double(architecture), _inputs()
    expected = _by_loops(model, inputs)
    error = (entk(model, inputs) - expected).norm() / expected.norm()
    assert float(error) < 1e-12


def test_the_kernel_is_symmetric_and_positive():
    kernel = entk(_double("resnet8"), _inputs())
    assert torch.equal(kernel, kernel.T)
    values = torch.linalg.eigvalsh(kernel)
    assert float(values[0]) > -1e-10 * float(values[-1])


def test_trace_and_pseudo_follow_from_the_full_kernel():
    model, inputs = _double("resnet8"), _inputs()
    blocks = entk(model, inputs).view(5, 10, 5, 10)
    trace = blocks.diagonal(dim1=1, dim2=3).mean(-1)
    assert torch.allclose(entk(model, inputs, kind="trace"), trace, rtol=1e-10)
    pseudo = blocks.sum((1, 3)) / 10
    assert torch.allclose(entk(model, inputs, kind="pseudo"), pseudo, rtol=1e-10)


def test_a_memory_limit_changes_nothing_but_the_memory():
    model, inputs = _double("resnet8"), _inputs()
    whole = entk(model, inputs)
    limited = entk(model, inputs, memory_limit=5 * 10 * 32 * 32 * 9 * 8)
    assert torch.allclose(whole, limited, rtol=1e-10)
    with pytest.raises(ValueError, match="memory_limit = 1000"):
        entk(model, inputs, memory_limit=1000)


def test_batch_norm_uses_its_running_statistics():
    model, inputs = _double("resnet8"), _inputs()
    alone = entk(model, inputs[:2])
    assert torch.allclose(entk(model.train(), inputs)[:20, :20], alone, rtol=1e-10)
