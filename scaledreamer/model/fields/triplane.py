"""TriplaneField: three feature planes and a small decoder (EG3D, arXiv:2112.07945)."""

from collections.abc import Sequence
from typing import Self

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from scaledreamer.model.fields.base import Field, FieldSample, scenes
from scaledreamer.model.fields.color import ColorActivation
from scaledreamer.model.fields.decoders import Bias, Decoder, SeparateHeads, SummedPlanes
from scaledreamer.model.fields.nodes import Axes, Nodes
from scaledreamer.model.fields.triplane_nodes import TriplaneNodes, hat_weights

# Plane 0 is read at (u, v) = (x, y), plane 1 at (x, z), plane 2 at (z, y); u runs along the width, v along the height.
PLANE_AXES = ((0, 1), (0, 2), (2, 1))


def sample_planes(planes: Float[Tensor, "B 3 C R R"], points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B 3 C N"]:
    """Read each plane bilinearly at the projections of points in [-1, 1]; zero outside (align_corners=False)."""
    places = torch.stack([points[..., axes] for axes in PLANE_AXES], dim=1)
    read = F.grid_sample(
        rearrange(planes, "B P C H W -> (B P) C H W"),
        rearrange(places, "B P N uv -> (B P) N 1 uv"),
        mode="bilinear",
        padding_mode="zeros",
        align_corners=False,
    )
    return rearrange(read, "(B P) C N 1 -> B P C N", P=3)


class TriplaneField(Field):
    """B scenes as planes [B, 3, C, R, R] over [-bound, bound]^3 and the decoder they share.

    Where the decoder tells shares of colours, each scene has its palette of them.
    """

    def __init__(
        self,
        planes: Float[Tensor, "B 3 C R R"],
        decoder: Decoder,
        bound: float,
        palette: Float[Tensor, "B K 3"] | None = None,
    ) -> None:
        self.planes, self.decoder, self.bound, self.palette = planes, decoder, bound, palette

    @staticmethod
    def from_weights(
        planes: Float[Tensor, "B 3 C R R"],
        sdf_weights: Sequence[Tensor],
        rgb_weights: Sequence[Tensor],
        radius: float = 2.0,
        sphere_bias: Bias = 0.8,
        color: ColorActivation = "sigmoid-mipnerf",
    ) -> "TriplaneField":
        """An official field from its planes and the [out, in] matrices of its two bias-free MLPs."""
        networks = (sdf_weights, rgb_weights)
        sizes = [[weights[0].shape[1], *(weight.shape[0] for weight in weights)] for weights in networks]
        decoder = SeparateHeads(sizes[0], sizes[1], sphere_bias, color).to(planes.device, planes.dtype)
        with torch.no_grad():
            for network, weights in zip((decoder.sdf_network, decoder.rgb_network), networks, strict=True):
                for parameter, weight in zip(network.parameters(), weights, strict=True):
                    parameter.copy_(weight)
        return TriplaneField(planes, decoder, radius)

    @property
    def device(self) -> torch.device:
        return self.planes.device

    def __len__(self) -> int:
        return len(self.planes)

    def __getitem__(self, index: int | slice) -> Self:
        some = scenes(index, len(self))
        palette = None if self.palette is None else self.palette[some]
        return type(self)(self.planes[some], self.decoder, self.bound, palette)

    def query(self, points: Float[Tensor, "B N 3"]) -> FieldSample:
        sdf, color = self.decoder.decode(sample_planes(self.planes, points / self.bound), points)
        return FieldSample(sdf, self.painted(color))

    def sdf(self, points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 1"]:
        return self.decoder.distance(sample_planes(self.planes, points / self.bound), points)

    def rgb(self, points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 3"]:
        return self.painted(self.decoder.color_of(sample_planes(self.planes, points / self.bound)))

    def painted(self, color: Float[Tensor, "B N K"]) -> Float[Tensor, "B N 3"]:
        """What the decoder says of colour as a colour: with a palette it is the share of each of its colours."""
        return color if self.palette is None else color @ self.palette

    def nodes(self, axes: Axes) -> Nodes:
        return TriplaneNodes(self.planes[0], self.decoder, self.bound, axes)

    def lattice(self, x: Float[Tensor, " X"], y: Float[Tensor, " Y"], z: Float[Tensor, " Z"]) -> FieldSample:
        """Every node at once. Where the decoder sums the planes, the sum is a broadcast of three resampled planes."""
        if not isinstance(self.decoder, SummedPlanes):
            return super().lattice(x, y, z)
        axes = (x, y, z)
        xy, xz, zy = (
            resample_plane(self.planes[:, index], axes[u] / self.bound, axes[v] / self.bound)
            for index, (u, v) in enumerate(PLANE_AXES)
        )
        summed = (
            rearrange(xy, "B y x C -> B x y 1 C")
            + rearrange(xz, "B z x C -> B x 1 z C")
            + rearrange(zy, "B y z C -> B 1 y z C")
        ).contiguous()  # channels last in memory: everything after this runs over them
        nodes = torch.stack(torch.meshgrid(x, y, z, indexing="ij"), dim=-1)
        sdf, rgb = self.decoder.heads(summed, nodes)
        return FieldSample(sdf.flatten(1, 3), self.painted(rgb.flatten(1, 3)))


def resample_plane(
    plane: Float[Tensor, "B C R R"], u: Float[Tensor, " U"], v: Float[Tensor, " V"]
) -> Float[Tensor, "B V U C"]:
    """A plane at every (u, v) of two axes in [-1, 1], bilinear with zeros outside: two small matrix products."""
    along_u, along_v = (hat_weights(places, plane.shape[-1]) for places in (u, v))
    return torch.einsum("vh,bchw,uw->bvuc", along_v, plane, along_u)
