"""What holds for every generator: the four kinds in small sizes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from scaledreamer.errors import ModelFileError
from scaledreamer.model.generators import (
    AnyGeneratorConfig,
    Conv3D,
    Conv3DConfig,
    Generator,
    GeneratorConfig,
    HyperNGPConfig,
    PromptNGPConfig,
    TriplaneTransformerConfig,
    build_generator,
)
from scaledreamer.model.layers.hash_grid import HashGridConfig
from scaledreamer.model.library import load_generator, save_generator
from scaledreamer.model.shelf import read_card
from scaledreamer.model.text import TextEmbedding

GRID = HashGridConfig(levels=3, log2_entries=8, base=4, growth=1.5)
SMALL: list[AnyGeneratorConfig] = [
    TriplaneTransformerConfig(width=16, text_width=16, layers=1, heads=2, low_res=2, plane_channels=4, radius=1.0),
    Conv3DConfig(
        text_width=16, text_scale=4.0, noise_width=4, style_width=8, channels=(6, 5), voxel_channels=3, hidden=8,
        radius=1.0, sphere_bias=0.5,
    ),
    HyperNGPConfig(text_width=16, width=8, grid=GRID, hidden=8, radius=1.0),
    PromptNGPConfig(grid=GRID, hidden=8),
]  # fmt: skip
every_generator = pytest.mark.parametrize("config", SMALL, ids=lambda config: config.kind)


def build(config: AnyGeneratorConfig) -> Generator:
    """A generator that says something at every place: what starts at zero, or nearly, is moved away from it."""
    torch.manual_seed(0)
    generator = build_generator(config)
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if name.endswith(("grid.params", "noise_strength")):
                parameter.normal_(std=0.3)
    return generator


def text(scenes: int = 3) -> TextEmbedding:
    rng = torch.Generator().manual_seed(0)
    return TextEmbedding(torch.randn(scenes, 3, 16, generator=rng), torch.randn(scenes, 16, generator=rng))


def points(scenes: int = 3, count: int = 40) -> torch.Tensor:
    return torch.rand(scenes, count, 3, generator=torch.Generator().manual_seed(1)) * 2.4 - 1.2


@every_generator
@torch.no_grad()
def test_three_prompts_at_once_are_three_prompts_one_by_one(config: AnyGeneratorConfig) -> None:
    generator, given, places = build(config).eval(), text(), points()
    noise = torch.randn(3, 4, generator=torch.Generator().manual_seed(2))
    field = generator(given, noise)
    together = field.query(places)
    assert len(field) == 3 and field.bound == 1.0
    for index in range(3):
        alone = generator(given[index : index + 1], noise[index : index + 1]).query(places[index : index + 1])
        picked = field[index].query(places[index : index + 1])
        for one in (alone, picked):
            assert torch.allclose(together.sdf[index], one.sdf[0], atol=1e-5)
            assert torch.allclose(together.rgb[index], one.rgb[0], atol=1e-5)
    assert len(field[1:]) == 2 and len(field[-1]) == 1
    assert torch.allclose(field[-1].sdf(places[2:]), together.sdf[2:], atol=1e-5)


@every_generator
@torch.no_grad()
def test_a_lattice_is_the_query_of_its_nodes(config: AnyGeneratorConfig) -> None:
    field = build(config)(text(2))
    x, y, z = torch.linspace(-1, 1, 3), torch.linspace(-0.5, 1, 4), torch.linspace(-0.9, 0.3, 5)
    nodes = torch.stack(torch.meshgrid(x, y, z, indexing="ij"), dim=-1).reshape(1, -1, 3).expand(2, -1, -1)
    lattice, query = field.lattice(x, y, z), field.query(nodes)
    assert torch.allclose(lattice.sdf, query.sdf, atol=1e-5) and torch.allclose(lattice.rgb, query.rgb, atol=1e-5)


@every_generator
def test_gradients_reach_every_parameter(config: AnyGeneratorConfig) -> None:
    generator = build_generator(config)
    sample = generator(text(), rng=torch.Generator().manual_seed(3)).query(points(count=400))
    (sample.sdf.square().sum() + sample.rgb.square().sum()).backward()
    assert [name for name, p in generator.named_parameters() if p.grad is None or not bool(p.grad.any())] == []


@every_generator
@torch.no_grad()
def test_without_noise_one_text_has_one_field(config: AnyGeneratorConfig) -> None:
    generator, places = build(config), points()
    assert torch.equal(generator(text()).sdf(places), generator(text()).sdf(places))
    one, same, other = (generator(text(), rng=torch.Generator().manual_seed(s)).sdf(places) for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert torch.equal(one, other) == (not generator.stochastic)


@every_generator
@torch.no_grad()
def test_a_saved_generator_comes_back(config: AnyGeneratorConfig, tmp_path: Path) -> None:
    generator, path = build(config), tmp_path / "model.safetensors"
    save_generator(generator, path, {"steps": 0})
    loaded = load_generator(path)
    assert loaded.config == config and type(loaded) is type(generator)
    assert read_card(path)["stochastic"] == generator.stochastic
    assert torch.allclose(generator(text()).sdf(points()), loaded(text()).sdf(points()), atol=2e-2), "fp16 on disk"


def test_a_generator_that_no_config_names_has_no_file(tmp_path: Path) -> None:
    class Other(Generator):
        def forward(self, text: TextEmbedding, noise: Any = None, rng: Any = None) -> Any:
            raise NotImplementedError

    with pytest.raises(ModelFileError, match="Other has no file form"):
        save_generator(Other(), tmp_path / "model.safetensors", {})


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    adapter: TypeAdapter[AnyGeneratorConfig] = TypeAdapter(GeneratorConfig)
    with pytest.raises(ValidationError, match=r"point-cloud.*'triplane-transformer', 'conv3d', 'hyper-ingp'"):
        adapter.validate_python({"kind": "point-cloud"})


class TestConv3D:
    """Noise, and where voxels lie."""

    CONFIG = SMALL[1]

    def voxels(self, noise: str, seed: int | None) -> torch.Tensor:
        assert isinstance(self.CONFIG, Conv3DConfig)
        generator = build(self.CONFIG.model_copy(update={"noise": noise}))
        assert isinstance(generator, Conv3D)
        rng = None if seed is None else torch.Generator().manual_seed(seed)
        with torch.no_grad():
            return generator.voxels(torch.ones(2, 8), rng)

    def test_layer_noise_is_drawn_only_where_an_rng_is_given(self) -> None:
        assert torch.equal(self.voxels("random", None), self.voxels("none", 1))
        assert not torch.allclose(self.voxels("random", 1), self.voxels("none", 1), atol=1e-3)
        assert not torch.allclose(self.voxels("random", 1)[0], self.voxels("random", 1)[1], atol=1e-3)
        assert torch.equal(self.voxels("const", 1), self.voxels("const", None))
        assert not torch.allclose(self.voxels("const", 1), self.voxels("none", 1), atol=1e-3)

    def test_given_noise_is_the_style_and_missing_noise_is_zero(self) -> None:
        generator, zeros = build(self.CONFIG), torch.zeros(3, 4)
        with torch.no_grad():
            assert torch.equal(generator(text()).sdf(points()), generator(text(), zeros).sdf(points()))
            assert not torch.equal(generator(text()).sdf(points()), generator(text(), zeros + 1).sdf(points()))

    def test_x_runs_along_the_last_axis_of_the_voxels(self) -> None:
        from scaledreamer.model.fields.voxel import sample_voxels

        voxels = torch.zeros(1, 1, 4, 4, 4)
        voxels[0, 0, 0, 1, 3] = 1  # z low, y below the middle, x high
        centre = torch.tensor([[[0.75, -0.25, -0.75]]])
        assert float(sample_voxels(voxels, centre)) == 1
        assert float(sample_voxels(voxels, centre.flip(-1))) == 0


def test_heads_that_do_not_share_the_width_are_refused() -> None:
    with pytest.raises(ValidationError, match="width 24 does not share out over 16 heads"):
        TriplaneTransformerConfig(width=24)


@every_generator
def test_a_field_is_a_sequence_of_its_scenes(config: AnyGeneratorConfig) -> None:
    field = build(config)(text(3))
    assert [len(scene) for scene in field] == [1, 1, 1] and len(field[1:]) == 2
    assert torch.equal(field[-1].sdf(points(1)), field[2].sdf(points(1)))
    for beyond in (3, -4):
        with pytest.raises(IndexError):
            field[beyond]


@torch.no_grad()
def test_out_of_training_a_scene_does_not_depend_on_its_place_in_the_batch() -> None:
    generator = build(SMALL[1]).eval()
    both = generator(text(2), rng=torch.Generator().manual_seed(3))
    alone = generator(text(2)[1:], rng=torch.Generator().manual_seed(3))
    assert torch.allclose(both[1].sdf(points(1)), alone.sdf(points(1)), atol=1e-6)
    in_training = generator.train()(text(2)[[0, 0]], rng=torch.Generator().manual_seed(3))
    assert not torch.allclose(in_training[0].sdf(points(1)), in_training[1].sdf(points(1)))


@torch.no_grad()
@pytest.mark.parametrize("index", [0, 1, 2])
def test_an_untrained_field_may_be_an_ellipsoid(index: int) -> None:
    axes = (0.3, 0.5, 0.7)
    config = SMALL[index].model_copy(update={"sphere_bias": axes})
    generator = build_generator(config)
    for name, parameter in generator.named_parameters():
        if "sdf_network" in name or "hypernet" in name:
            parameter.zero_()
    on_surface = torch.diag(torch.tensor(axes))[None]
    assert float(generator(text(1)).sdf(on_surface).abs().max()) < 1e-6
