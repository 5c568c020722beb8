"""How much memory a model takes on each GPU, and what that leaves for requests.

All formulas are for one GPU of a replica and in bytes. They are estimates to plan with: against the two
published logs of engines they came out 4 % above (GLM-5.1 FP8, tensor 8: 278,700 for 266,944 tokens) and 11 %
below (GLM-5.3-Flash FP8 on four MI355X: 13.31 for 14.92 million). The line "GPU KV cache size" of an engine's
own log is what counts.
"""

from dataclasses import dataclass
from enum import StrEnum
from math import ceil

from headrace_platform.catalog.shape import GroupedQuery, Latent, Shape

GB = 10**9

# Of a GPU's memory, what vLLM is given; the rest is for what is not its own.
MEMORY_SHARE = 0.90
# Activations, CUDA graphs and NCCL's buffers.
OVERHEAD_BYTES = 8 * GB

BLOCK = 128
"""Numbers that share one scale in FP8 caches."""


class KvLayout(StrEnum):
    """How an entry of the key-value cache is stored."""

    BF16 = "bf16"
    FP8 = "fp8"
    FP8_DS_MLA = "fp8_ds_mla"  # FlashMLA's: the latent in FP8 with its scales, the rotated part in BF16


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What becomes of one GPU's memory."""

    given_bytes: int
    weights_bytes: int
    overhead_bytes: int
    token_bytes: int
    """Of the cache, for each token of a running request."""
    sequence_bytes: int
    """Of the cache, for each running request whatever its length."""
    pool_bytes: int
    """What is left for the cache; below zero where not even the weights have room."""

    @property
    def pool_tokens(self) -> int:
        """Tokens that the cache holds when one request has it all."""
        return max(0, (self.pool_bytes - self.sequence_bytes) // self.token_bytes)

    def sequences(self, tokens: int) -> int:
        """Requests of so many tokens that run at once.

        Both bounds at once, since state and tokens come out of one pool: n · (tokens · token_bytes +
        sequence_bytes) ≤ pool_bytes.
        """
        return max(0, self.pool_bytes // (tokens * self.token_bytes + self.sequence_bytes))


def token_bytes(shape: Shape, *, layout: KvLayout, drafting: bool, tensor: int, pipeline: int) -> int:
    """Bytes of the key-value cache that a token takes on one GPU.

    - Grouped-query attention: 2 · layers · max(1, heads_kv / tensor) · head_dim · bytes.
    - Latent attention: layers · entry, whole on each GPU of the tensor group (vLLM's `max_tp_shards=1`). The
      entry is 2 · (rank_kv + rotated) in BF16, rank_kv + rotated in FP8, and in FlashMLA's layout rank_kv bytes,
      four bytes of scale for each 128 of them, and the rotated part in BF16: 656.
    - Its indexer: layers · (head_dim + 4 · head_dim / 128), divided by the tokens that share an entry.
    - The layer that drafts has a cache like the others', indexer included.

    The layers of a pipeline are spread evenly; the largest share counts. Source: vLLM 0.32, `v1/kv_cache_interface`
    and `v1/attention/backends/mla`.
    """
    drafts = shape.layers_mtp if drafting else 0
    match shape.attention:
        case GroupedQuery(heads_kv=heads, head_dim=dim):
            element = 1 if layout is KvLayout.FP8 else 2
            return ceil((shape.layers + drafts) / pipeline) * 2 * max(1, heads // tensor) * dim * element
        case Latent(rank_kv=rank, head_dim_rotated=rotated, indexer=indexer, linear=linear):
            entry = {
                KvLayout.BF16: 2 * (rank + rotated),
                KvLayout.FP8: rank + rotated,
                KvLayout.FP8_DS_MLA: rank + 4 * rank // BLOCK + 2 * rotated,
            }[layout]
            layers = shape.layers - (linear.layers if linear else 0) + drafts
            total = ceil(layers / pipeline) * entry
            if indexer:
                key = indexer.head_dim + 4 * indexer.head_dim // BLOCK
                total += ceil((indexer.layers + drafts) / pipeline) * key // indexer.pool_tokens
            return total


def sequence_bytes(
    shape: Shape, *, draft_tokens: int, tensor: int, pipeline: int, prefixes_cached: bool = True
) -> int:
    """Bytes that a running request takes on one GPU whatever its length.

    Kimi delta attention keeps a state of a matrix a head in 32 bits and the convolution's last inputs in 16: one
    for the request, one more for each drafted token, so that a rejected draft can be taken back, and one more
    where prefixes are cached, as our engines do:
    layers · (heads · dim² · 4 + 3 · heads · dim · (convolution - 1 + drafts) · 2) / tensor · (1 or 2 + drafts).
    Source: vLLM 0.32, `MambaSpec.max_memory_usage_bytes` and `kda_state_shape`.
    """
    linear = shape.attention.linear if isinstance(shape.attention, Latent) else None
    if linear is None:
        return 0
    matrix = linear.heads * linear.head_dim**2 * 4
    inputs = 3 * linear.heads * linear.head_dim * (linear.convolution - 1 + draft_tokens) * 2
    states = (2 if prefixes_cached else 1) + draft_tokens
    return ceil(linear.layers / pipeline) * (matrix + inputs) * states // tensor


def weights_bytes(
    shape: Shape, size_bytes: int, parameters: int, *, tensor: int, pipeline: int, data: int
) -> int:
    """Bytes of weights on one GPU: size / (tensor · pipeline), and with data-parallel ranks inside the replica
    the experts shared out over all of them, while each rank has the rest of its own.

    The experts' part is 3 · hidden · feed_forward numbers for each routed expert of each layer that has them.
    """
    if data == 1 or shape.experts is None:
        return size_bytes // (tensor * pipeline)
    layers = shape.layers - shape.layers_dense + shape.layers_mtp
    experts = layers * shape.experts.routed * 3 * shape.hidden * shape.experts.feed_forward
    in_experts = int(size_bytes * min(1.0, experts / parameters))
    return in_experts // (tensor * pipeline * data) + (size_bytes - in_experts) // (tensor * pipeline)
