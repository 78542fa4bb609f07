"""The largest eigenvalue by 15 products against whole matrices."""

import pytest
import torch
import torch.nn.functional as F

from darts_hpc.distributed.world import World
from darts_hpc.models.supernet.plain import SuperNet
from darts_hpc.search.architecture import Architecture
from darts_hpc.search.curvature import largest_alpha_eigenvalue, largest_eigenvalue, start_vector

WORLD = World(torch.device("cpu"))


def test_the_largest_signed_eigenvalue_is_found_not_the_largest_in_size():
    generator = torch.Generator().manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(60, 60, dtype=torch.float64, generator=generator))
    eigenvalues = torch.cat([torch.tensor([-5.0, -2.0, 3.0, 1.0]), torch.zeros(56)]).double()
    matrix = basis @ torch.diag(eigenvalues) @ basis.T
    start = torch.randn(60, dtype=torch.float64, generator=generator)
    found = largest_eigenvalue(lambda vector: matrix @ vector, start)
    assert found.item() == pytest.approx(3.0, rel=1e-10)
    assert largest_eigenvalue(lambda vector: -matrix @ vector, start).item() == pytest.approx(5.0, rel=1e-10)
    assert largest_eigenvalue(lambda vector: 0.5 * vector, start).item() == pytest.approx(0.5)
    assert largest_eigenvalue(lambda vector: 0 * vector, start).item() == 0
    assert largest_eigenvalue(lambda vector: float("inf") * vector, start).isnan()


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_a_searchs_eigenvalue_is_that_of_its_whole_hessian_and_leaves_no_trace(decay):
    torch.manual_seed(0)
    supernet = SuperNet(2, 3, 5, num_nodes=1, primitives=("skip_connect", "avg_pool_3x3", "dil_conv_3x3")).double()
    with torch.no_grad():
        for alphas in supernet.alphas():
            alphas.normal_()
    batch = torch.randn(4, 3, 8, 8).double(), torch.tensor([0, 1, 2, 3])
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    architecture = Architecture(supernet)
    start = start_vector(1, 0, architecture.alphas())
    found = largest_alpha_eigenvalue(supernet, architecture, batch, None, weight_decay=decay, start=start, world=WORLD)
    assert all(torch.equal(tensor, before[name]) for name, tensor in supernet.state_dict().items())

    def loss(flat: torch.Tensor) -> torch.Tensor:
        parts = dict(zip(supernet.named_alphas(), flat.view(2, 2, 3), strict=True))
        return F.cross_entropy(torch.func.functional_call(supernet, parts, batch[0]), batch[1])

    flat = torch.cat([alphas.detach().flatten() for alphas in supernet.alphas()])
    hessian = torch.autograd.functional.hessian(loss, flat)
    assert isinstance(hessian, torch.Tensor)
    assert found.item() == pytest.approx(torch.linalg.eigvalsh(hessian)[-1].item() + decay, rel=1e-9)
