"""Which of vLLM's arguments a deployment's author may give: those that tune it, by name.

vLLM has arguments that load code by its name or path, that send traces or requests elsewhere, that listen, log what
users wrote, or change what billing counts by. New ones come with each release, so what is not named here is refused;
whoever runs the cluster can allow more.
"""

import re
from collections.abc import Iterable

TUNING = frozenset(
    {
        "--all2all-backend",
        "--async-scheduling",
        "--attention-backend",
        "--block-size",
        "--cpu-offload-gb",
        "--cudagraph-capture-sizes",
        "--disable-cascade-attn",
        "--disable-custom-all-reduce",
        "--enable-chunked-prefill",
        "--enable-dbo",
        "--enable-eplb",
        "--enforce-eager",
        "--expert-placement-strategy",
        "--gpu-memory-utilization",
        "--kv-cache-dtype",
        "--kv-cache-memory-bytes",
        "--limit-mm-per-prompt",
        "--long-prefill-token-threshold",
        "--max-cudagraph-capture-size",
        "--max-log-len",
        "--max-logprobs",
        "--max-num-batched-tokens",
        "--max-num-scheduled-tokens",
        "--max-num-seqs",
        "--max-parallel-loading-workers",
        "--mm-processor-cache-gb",
        "--moe-backend",
        "--no-async-scheduling",
        "--no-enable-chunked-prefill",
        "--no-enable-prefix-caching",
        "--num-gpu-blocks-override",
        "--safetensors-load-strategy",
        "--scheduling-policy",
        "--seed",
    }
)

NUMBER = re.compile(r"-[0-9.]+")


def forbidden(argument: str, also_allowed: Iterable[str] = ()) -> str | None:
    """The name of an argument that may not be given; None for one that may, and for a value.

    vLLM takes `_` for `-`, `--name=value` and, like all of argparse, any beginning of a name: only whole names pass.
    """
    if not argument.startswith("-") or NUMBER.fullmatch(argument):
        return None
    name = argument.split("=", 1)[0].replace("_", "-")
    return None if name in TUNING or name in set(also_allowed) else name
