"""What a run costs, told beforehand: against published sizes, against counts by hand, and against measured memory."""

import json
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from scaledreamer.training.config import DistillRun, load_preset
from scaledreamer.training.costs import Costs, costs, fit
from scaledreamer.training.ledger import Ledger, Rates, assign, imagined
from scaledreamer.training.priors.skeleton import skeleton

RATES = Rates("a machine", 1e9, 1e9, 1e12)


def distill(name: str, *overrides: str) -> DistillRun:
    run = load_preset(name, list(overrides))
    assert isinstance(run, DistillRun)
    return run


def of(run: DistillRun, texts: int | None = None) -> Costs:
    found = costs(run, texts)
    assert found is not None
    return found


def test_a_perceptron_is_booked_to_the_byte_and_the_flop() -> None:
    with imagined():
        network, ledger = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1)), Ledger(RATES)
        ledger.hold("weights", network.parameters())
        assign(ledger, network, "network")
        with ledger:
            ledger.work_on("rest")
            x = torch.rand(1000, 64, generator=torch.Generator())
            said = network(x)
            assert ledger.alive["rest"] == 4 * 1000 * 64
            assert ledger.alive["network"] == 4 * 1000 * (32 + 1)  # what relu keeps is what it returns
            forward = 2 * 1000 * (64 * 32 + 32)
            assert ledger.flops["network"] == forward
            said.sum().backward()
            assert ledger.flops["network"] == forward + 2 * 1000 * (2 * 32 + 64 * 32)  # x wants no gradient
            del said, x
    assert ledger.alive["weights"] == 4 * (64 * 32 + 32 + 32 + 1)
    assert ledger.alive["rest"] == 0


@pytest.mark.parametrize(
    ("name", "dtype", "unet", "encoder", "kept"),
    [  # parameters in millions, GB of the encoder's activations: one picture of 512 pixels, or four of 256
        ("mg15-hyper-ingp", torch.float32, 865.9, 34.2, 3.18),
        ("mg15-hyper-ingp", torch.float16, 865.9, 34.2, 1.6),
        ("dl17k-triplane-1gpu", torch.float32, 867.6, 34.2, 3.18),
        ("dl17k-triplane-1gpu", torch.float16, 867.6, 34.2, 1.6),
    ],
)
def test_priors_of_released_sizes_take_what_was_counted_and_measured(
    name: str, dtype: torch.dtype, unet: float, encoder: float, kept: float
) -> None:
    with imagined():
        bones = skeleton(distill(name).prior, dtype)
        assert bones is not None and bones.autoencoder is not None
        inner: Any = bones.autoencoder.encoder
        for network, millions in ((bones.denoiser, unet), (inner, encoder)):
            assert sum(p.numel() for p in network.parameters()) == pytest.approx(1e6 * millions, rel=2e-3)
        assert bones.encoder.parameters == 340_387_840
        ledger = Ledger(RATES)
        assign(ledger, inner, "encoder")
        pictures = torch.rand(bones.prior.views, 3, 64, 64, requires_grad=True)
        with ledger:
            latents = bones.prior.encode(pictures)
        assert ledger.alive["encoder"] == pytest.approx(1e9 * kept, rel=0.15)
        assert latents.shape[1] == 4


def test_a_published_run_is_told_by_parts_that_add_up() -> None:
    run = distill("mg15-hyper-ingp")
    found = of(run, texts=15)
    told = found.told()
    assert json.loads(json.dumps(told)) == told
    assert sum(found.at_peak.values()) == found.peak < 32e9  # published: it fits into 32 GB
    assert found.most["prior's weights"] == pytest.approx(1e9 * (1.73 + 0.17), rel=0.15)
    assert found.most["weights"] == pytest.approx(4 * (12_948_464 + 342_336), rel=0.01)
    assert found.most["optimiser"] >= 2 * found.most["weights"]
    assert found.table == pytest.approx(15 * 5 * 158e3, rel=0.02)
    assert found.flops["encoder"] == pytest.approx(2.19e12, rel=0.15)  # spec: 273 + 275 GFLOP for 256 pixels, 4 of them


def test_the_fewest_switches_bring_a_run_under_a_budget() -> None:
    run = distill("mg15-hyper-ingp")
    whole = of(run).peak / 1e9
    assert fit(run, whole + 1)["switches"] == []
    smaller = fit(run, whole - 1)
    assert smaller["fits"] and len(smaller["switches"]) == 1
    assert smaller["switches"][0]["peak_gb"] <= whole - 1
    nothing = fit(run, 1.0)
    assert not nothing["fits"] and len(nothing["switches"]) == 2


def test_embeddings_on_disk_take_no_memory_and_are_offered_where_a_table_does() -> None:
    run, texts = distill("props-triplane", "prior.path=shipped"), 1_000_000
    table = of(run, texts).at_peak["embeddings table"]
    assert table == texts * (2 * 384 * (32 + 1) + 32)  # fp16 rows of 32 tokens and the pooled one, and a mask
    on_disk = of(distill("props-triplane", "prior.path=shipped", "distill.embeddings=data/embeddings"), texts)
    assert on_disk.table == 0 and on_disk.peak == of(run, texts).peak - table
    offered = fit(run, (on_disk.peak + 1e8) / 1e9, texts)
    assert offered["fits"] and ["distill.embeddings=data/embeddings"] in [each["set"] for each in offered["switches"]]


SHIPPED = "prior.path=shipped"
SMALL = {
    "props": ("props-triplane", [SHIPPED]),
    "volsdf": ("props-triplane", [SHIPPED,
        "distill.prompts=1", "distill.renderer={kind: volsdf, near: 1.9, far: 4.1, proposals: 32, fine: 16}",
        "generator.decoder={kind: separate}", "distill.regularizers.smoothness=0", "distill.nodes=null",
    ]),
    "wide": ("props-triplane", [SHIPPED, "generator.width=384", "generator.layers=8", "distill.prompts=6"]),
}  # fmt: skip
CHILD = """
import sys, tempfile
from pathlib import Path
import torch
torch.set_num_threads(1)
from scaledreamer.training.cli import build_task
from scaledreamer.training.config import load_preset
from scaledreamer.training.loop import Trainer
from scaledreamer.training.parallel import Rank
from transformers import AutoModel, AutoTokenizer, BertModel, BertTokenizer  # libraries are no costs of a run
import scaledreamer.training.step
warm = torch.rand(64, 64, requires_grad=True)
(torch.nn.functional.conv2d(warm[None, None], warm[None, None, :3, :3]).sum() + (warm @ warm).sum()).backward()

def peak():  # of this program alone; ru_maxrss begins with what its parent had
    return 1024 * int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])

before = peak()
run = load_preset(sys.argv[1], sys.argv[2:])
trainer = Trainer(build_task(run), run.loop, Path(tempfile.mkdtemp()), Rank(), {})
for _ in range(3):
    trainer.advance()
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_the_peak_is_that_of_a_process_within_a_quarter(name: str) -> None:
    preset, overrides = SMALL[name]
    prompts = "a red mug, a blue mug, a mug, a pine tree, a red barrel, a blue chair, a green house, a red rocket"
    short = [*overrides, f"distill.corpus={{kind: list, prompts: [{prompts}]}}"]
    told = subprocess.run([sys.executable, "-c", CHILD, preset, *short], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    measured = int(told.stdout)
    expected = of(distill(preset, *short), texts=8).peak
    assert expected == pytest.approx(measured, rel=0.25), (expected / 1e6, measured / 1e6)
