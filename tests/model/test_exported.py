"""What torch.export makes of the text encoders and the Triplane-Transformer equals eager, for every batch."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import CLIPTextConfig, CLIPTextModel

from scaledreamer.model.accelerated import EXAMPLES, PlanesNetwork
from scaledreamer.model.clip_text import CLIPNetwork
from scaledreamer.model.compile import MAX_BATCH, exported
from scaledreamer.model.generators.triplane_transformer import OFFICIAL, TriplaneTransformer, TriplaneTransformerConfig
from scaledreamer.model.text import MiniLM
from tests.model.networks import PROPS, TINY, assert_same, clip, planes_network, text


class TestExport:
    @torch.no_grad()
    @pytest.mark.parametrize(
        ("config", "mask"),
        [(TINY, False), (TINY.model_copy(update={"text": "global"}), False), (PROPS, True)],
        ids=["local", "global", "props"],
    )
    def test_the_triplane_transformer_for_every_batch(self, config: TriplaneTransformerConfig, mask: bool) -> None:
        network = planes_network(config)
        program = exported(network, text(3, mask)).module()
        for prompts in (1, 2, 3, MAX_BATCH):
            given = text(prompts, mask)
            expected = network(*given)
            assert expected.shape[0] == prompts and float(expected.std()) > 1e-3
            assert_same(program(*given), expected)

    @torch.no_grad()
    @pytest.mark.parametrize("name", ["minilm", "clip"])
    def test_a_text_encoder_for_every_batch(self, name: str, tmp_path: Path) -> None:
        encoder = MiniLM() if name == "minilm" else clip(tmp_path)
        assert isinstance(encoder.network, nn.Module)
        program = exported(encoder.network, encoder.read(EXAMPLES)).module()
        for prompts in (1, 2, MAX_BATCH):
            asked = (EXAMPLES * MAX_BATCH)[:prompts]
            tokens, pooled = program(*encoder.read(asked))
            embedding = encoder.encode(asked)
            assert_same((tokens, pooled), (embedding.tokens, embedding.pooled))

    @pytest.mark.slow
    @torch.no_grad()
    def test_the_official_size_on_fake_tensors(self) -> None:
        with FakeTensorMode():
            network = PlanesNetwork(TriplaneTransformer(OFFICIAL).eval())
            program = exported(network, (torch.empty(2, 77, 1024), torch.empty(2, 1024)))
            for prompts in (1, MAX_BATCH):
                planes = program.module()(torch.empty(prompts, 77, 1024), torch.empty(prompts, 1024))
                assert planes.shape == (prompts, 3, 32, 64, 64)
        assert sum(parameter.numel() for parameter in program.parameters()) > 100_000_000

    @pytest.mark.slow
    @torch.no_grad()
    def test_the_text_encoder_of_stable_diffusion_2_1_on_fake_tensors(self) -> None:
        size = CLIPTextConfig(
            vocab_size=49408, hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16,
            max_position_embeddings=77, hidden_act="gelu",
        )  # fmt: skip
        with FakeTensorMode():
            program = exported(CLIPNetwork(CLIPTextModel(size).eval()), [torch.zeros(2, 77, dtype=torch.int64)])
            for prompts in (1, MAX_BATCH):
                tokens, pooled = program.module()(torch.zeros(prompts, 77, dtype=torch.int64))
                assert tokens.shape == (prompts, 77, 1024) and pooled.shape == (prompts, 1024)
        assert sum(parameter.numel() for parameter in program.parameters()) > 300_000_000

    def test_a_larger_batch_is_outside_the_export(self) -> None:
        with pytest.raises(AssertionError, match="<= 16"):
            exported(planes_network(), text(3)).module()(*text(MAX_BATCH + 1))
