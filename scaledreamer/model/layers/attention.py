"""Multi-head attention as the official transformer has it: q, k, v without bias, the output with."""

from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """softmax(q k^T / sqrt(D/heads)) v (arXiv:1706.03762)."""

    def __init__(self, width: int, heads: int, context_width: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        context_width = context_width or width
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context_width, width, bias=False)
        self.to_v = nn.Linear(context_width, width, bias=False)
        self.to_out = nn.Linear(width, width)

    def forward(
        self,
        x: Float[Tensor, "B N D"],
        context: Float[Tensor, "B L E"] | None = None,
        mask: Bool[Tensor, "B L"] | None = None,
    ) -> Float[Tensor, "B N D"]:
        """Attend from x to the context, or to x itself; masked-out context is not read."""
        context = x if context is None else context
        q, k, v = (
            rearrange(project(source), "B N (H D) -> B H N D", H=self.heads)
            for project, source in ((self.to_q, x), (self.to_k, context), (self.to_v, context))
        )
        attended = F.scaled_dot_product_attention(q, k, v, None if mask is None else mask[:, None, None])
        out: Tensor = self.to_out(rearrange(attended, "B H N D -> B N (H D)"))
        return out
