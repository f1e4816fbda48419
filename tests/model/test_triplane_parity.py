"""The Triplane-Transformer and its field equal the official ones."""

import pytest
import torch
from fixtures import error, fixture, under
from torch.nn import functional as F

from scaledreamer.model.fields.base import sdf_gradient
from scaledreamer.model.fields.triplane import TriplaneField
from scaledreamer.model.generators.triplane_transformer import OFFICIAL, TriplaneTransformer
from scaledreamer.model.official import from_state_dict
from scaledreamer.model.text import TextEmbedding


@pytest.mark.parametrize("name", ["triplane_local", "triplane_global"])
def test_planes_distances_colours_and_normals_equal_the_official_ones(name: str) -> None:
    tensors, meta = fixture(name)
    config = meta["config"]
    generator = from_state_dict(under("sd/", tensors), heads=config["num_heads"], color="sigmoid")
    given = tensors["in/text_embed"]
    text = TextEmbedding(given, given[:, 0]) if given.ndim == 3 else TextEmbedding(given[:, None], given)
    points = tensors["in/points"]
    with torch.no_grad():
        field = generator(text)
        sample = field.query(points)
        gradient = sdf_gradient(field, points, sample.sdf, config["eps"])
    assert error(field.planes, tensors["out/planes"]) < 2e-5
    assert error(sample.sdf, tensors["out/sdf"]) < 2e-5
    assert error(field.sdf(points), tensors["out/sdf"]) < 2e-5
    assert error(sample.rgb, torch.sigmoid(tensors["out/features"])) < 2e-5
    assert error(gradient, tensors["out/sdf_grad"]) < 5e-3
    assert error(F.normalize(gradient, dim=-1), tensors["out/normal"]) < 5e-3
    assert field.bound == config["radius"]


def test_a_field_from_weight_matrices_is_the_generators_field() -> None:
    tensors, _ = fixture("triplane_local")
    state = under("sd/geometry.", tensors)
    sdf, rgb = ([state[f"{name}.layers.{i}.weight"] for i in (0, 2, 4)] for name in ("sdf_network", "feature_network"))
    field = TriplaneField.from_weights(tensors["out/planes"], sdf, rgb, color="sigmoid")
    sample = field.query(tensors["in/points"])
    assert error(sample.sdf, tensors["out/sdf"]) < 2e-5
    assert error(sample.rgb, torch.sigmoid(tensors["out/features"])) < 2e-5
    assert error(field[1].query(tensors["in/points"][1:]).sdf, tensors["out/sdf"][1:]) < 2e-5


def test_the_official_size_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        generator = TriplaneTransformer(OFFICIAL)
    assert sum(p.numel() for p in generator.parameters()) == 120_564_480


def test_keys_that_are_not_a_triplane_transformer_are_refused_by_name() -> None:
    with pytest.raises(Exception, match=r"encoder\.weight"):
        from_state_dict({"encoder.weight": torch.zeros(2, 2)})
