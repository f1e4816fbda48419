"""Size words that the planes do not hear: the stretch does what they say."""

import pytest
import torch

from scaledreamer.errors import ConfigError
from scaledreamer.model.fields.stretched import StretchedField
from scaledreamer.model.fields.triplane import TriplaneField
from scaledreamer.model.generators import TriplaneTransformer
from scaledreamer.model.generators.triplane_transformer import SummedPlanesConfig, TriplaneTransformerConfig
from scaledreamer.model.text import TextEmbedding, TextEncoder
from scaledreamer.training.size_words import SizeWordsConfig, generate

SIZES = SizeWordsConfig(words=("tall", "wide"), hidden=1.0)
CONFIG = TriplaneTransformerConfig(
    width=8, text_width=12, layers=1, heads=2, low_res=2, plane_channels=4, film=True, stretch=True, radius=1.0,
    decoder=SummedPlanesConfig(hidden=8), sphere_bias=0.55, color="sigmoid",
)  # fmt: skip


class Words(TextEncoder):
    """One vector a word."""

    name = "words"

    def overflow(self, prompt: str) -> int:
        return 0

    def encode(self, prompts: list[str]) -> TextEmbedding:
        rows = []
        for prompt in prompts:
            rng = torch.Generator().manual_seed(sum(map(ord, prompt)))
            rows.append(torch.randn(3, 12, generator=rng))
        tokens = torch.stack(rows)
        return TextEmbedding(tokens, torch.nn.functional.normalize(tokens.mean(1), dim=-1), None)


def trained() -> TriplaneTransformer:
    """A generator whose stretch says something of every prompt."""
    torch.manual_seed(0)
    generator = TriplaneTransformer(CONFIG)
    assert generator.stretch is not None
    torch.nn.init.normal_(generator.stretch.numbers.weight)
    return generator


def made(prompts: list[str], sizes: SizeWordsConfig | None, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Planes and factors."""
    rng = torch.Generator().manual_seed(seed)
    field, text = generate(trained(), Words(), prompts, sizes, 0.0, rng)
    assert isinstance(field, StretchedField) and isinstance(field.inner, TriplaneField)
    assert torch.equal(text.tokens, Words().encode(prompts).tokens)
    return field.inner.planes.detach(), field.stretch.detach()


@pytest.mark.parametrize(
    ("prompt", "left"),
    [
        ("a tall orange mug", "an orange mug"),
        ("a red mug", "a red mug"),
        ("a wide wooden chair in blue, game asset", "a wooden chair in blue, game asset"),
        ("a taller widow", "a taller widow"),
    ],
)
def test_the_words_alone_are_left_out(prompt: str, left: str) -> None:
    assert SIZES.without(prompt) == left


def test_planes_hear_the_prompt_without_them_and_the_stretch_hears_all() -> None:
    planes, factors = made(["a tall red mug", "a red mug"], SIZES)
    plain_planes, plain_factors = made(["a red mug", "a red mug"], None)
    torch.testing.assert_close(planes, plain_planes)
    torch.testing.assert_close(factors[1], plain_factors[1])
    assert not torch.allclose(factors[0], factors[1])


def test_some_are_hidden_and_some_are_not() -> None:
    planes, _ = made(["a tall red mug"] * 40, SIZES.model_copy(update={"hidden": 0.5}))
    plain, said = (made([prompt], None)[0][0] for prompt in ("a red mug", "a tall red mug"))
    hidden = [torch.allclose(one, plain, atol=1e-6) for one in planes]
    assert 8 < sum(hidden) < 32
    assert all(one or torch.allclose(got, said, atol=1e-6) for one, got in zip(hidden, planes, strict=True))


def test_a_generator_that_does_not_stretch_is_refused() -> None:
    generator = TriplaneTransformer(CONFIG.model_copy(update={"stretch": False}))
    with pytest.raises(ConfigError, match=r"generator\.stretch=true"):
        generate(generator, Words(), ["a tall mug"], SIZES, 0.0, torch.Generator())
