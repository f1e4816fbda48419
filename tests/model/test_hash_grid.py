"""The hash grid: tiny-cuda-nn's layout, and plain interpolation where nothing is shared."""

import pytest
import torch
from einops import rearrange
from fixtures import error, fixture

from scaledreamer.model.layers.hash_grid import (
    TINYCUDANN,
    HashGrid,
    HashGridConfig,
    Level,
    fused,
    interpolate,
    levels_of,
    read_level,
    uses_tinycudann,
)
from scaledreamer.model.rendering import HashGridBackgroundConfig, HyperBackgroundConfig

SMALL = HashGridConfig(levels=6, log2_entries=11, base=4)
FINE = [16, 24, 34, 49, 71, 102, 148, 213, 308, 446, 646, 934, 1352, 1956, 2831]


@pytest.mark.parametrize(
    ("config", "layout"),
    [(SMALL, "geometry_grid_layout"), (HashGridConfig(levels=3, base=8, growth=1.0), "background_grid_layout")],
)
def test_levels_lie_where_tiny_cuda_nn_puts_them(config: HashGridConfig, layout: str) -> None:
    _, meta = fixture("hyper_ingp")
    found = [[lv.scale, lv.resolution, lv.entries, lv.offset, lv.hashed] for lv in levels_of(config)]
    assert [level[1:] for level in found] == [level[1:] for level in meta[layout]]
    scales = [level[0] for level in meta[layout]]
    assert [level[0] for level in found] == pytest.approx(scales, rel=1e-6)  # the last bit of exp2 is the processor's


@pytest.mark.parametrize(
    ("config", "resolutions", "dense", "parameters"),
    [
        (HashGridConfig(), FINE, 5, 12_599_920),
        (HyperBackgroundConfig().grid, [16] * 16, 16, 131_072),
        (HashGridBackgroundConfig().grid, [4, 16, 64, 256], 3, 1_581_184),
    ],
)
def test_official_grids_have_their_sizes(
    config: HashGridConfig, resolutions: list[int], dense: int, parameters: int
) -> None:
    levels = levels_of(config)
    assert [level.resolution for level in levels][: len(resolutions)] == resolutions
    assert [not level.hashed for level in levels].count(True) == dense
    assert config.parameters == parameters


def test_features_equal_the_recorded_ones_inside_and_outside_the_cube() -> None:
    tensors, _ = fixture("hyper_ingp")
    points = tensors["in/grid_unit_points"]
    assert bool((points < 0).any()) and bool((points > 1).any())
    grid = HashGrid(SMALL)
    grid.load_state_dict({"params": tensors["sd/geometry.encoding.encoding.encoding.params"]})
    assert error(grid(points), tensors["out/grid_features"]) < 2e-5
    assert torch.equal(grid(points[None].expand(2, -1, -1)), grid(points).expand(2, -1, -1)), "any leading axes"


def test_a_dense_level_that_stores_a_linear_function_gives_it_back() -> None:
    level = Level(scale=4.0, resolution=5 + 1, entries=216, offset=0)
    z, y, x = torch.meshgrid(*[torch.arange(6.0)] * 3, indexing="ij")  # x fastest in memory
    table = rearrange(x + 10 * y + 100 * z, "z y x -> (z y x) 1")
    points = torch.rand(50, 3, generator=torch.Generator().manual_seed(0))
    expected = (points * 4 + 0.5) @ torch.tensor([1.0, 10.0, 100.0])
    assert torch.allclose(read_level(table, level, points)[:, 0], expected, atol=1e-3)


def test_its_gradients_are_right_in_dense_and_hashed_levels() -> None:
    config = HashGridConfig(levels=3, features=2, log2_entries=5, base=2, growth=2.0)
    assert [level.hashed for level in levels_of(config)] == [False, True, True]
    rng = torch.Generator().manual_seed(0)
    params = torch.randn(config.parameters, generator=rng, dtype=torch.float64, requires_grad=True)
    points = torch.rand(4, 3, generator=rng, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p, x: interpolate(p, x, config), (params, points))


def test_an_untrained_grid_is_nearly_nothing() -> None:
    params = HashGrid(SMALL).params.detach()
    assert float(params.abs().max()) <= 1e-4 and float(params.std()) > 5e-5


def test_points_on_the_cpu_are_read_by_the_plain_twin() -> None:
    assert not uses_tinycudann(torch.zeros(1, 3))


@pytest.mark.gpu
@pytest.mark.skipif(not TINYCUDANN, reason="tinycudann is not installed")
def test_tiny_cuda_nn_and_the_plain_twin_agree_forward_and_backward() -> None:
    grid = HashGrid(SMALL).cuda()
    with torch.no_grad():
        grid.params.normal_()
    points = torch.rand(500, 3, device="cuda") * 1.4 - 0.2
    results = []
    for features in (fused(grid, points), interpolate(grid.params, points, SMALL)):
        grid.params.grad = None
        features.square().sum().backward()
        assert grid.params.grad is not None
        results.append((features, grid.params.grad))
    (kernel, kernel_grad), (plain, plain_grad) = results
    assert error(kernel, plain) < 1e-3 and error(kernel_grad, plain_grad) < 1e-3
