"""Trains glm-tiny from a seed on one core, and writes it as vLLM loads it.

    python -m headrace_platform.catalog.tiny.train --out DIR --seed 0 --cpu-seconds 2700

The learning rate follows the CPU seconds spent, so the same seed on another machine gives a like model and
not the same one; `--steps` gives the same one.
"""

import argparse
import math
import os
import time
from pathlib import Path
from random import Random

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from transformers import GenerationConfig, Glm4MoeConfig, Glm4MoeForCausalLM, PreTrainedTokenizerFast

from headrace_platform.catalog.tiny import tokenizer as tokenizers
from headrace_platform.catalog.tiny.batches import IGNORED, Batches
from headrace_platform.catalog.tiny.dialogue import EOS_TOKENS, messages, segments
from headrace_platform.catalog.tiny.optimiser import Muon
from headrace_platform.catalog.tiny.sampler import KINDS, sample

MATRIX_RATE = 0.02
OTHER_RATE = 3e-3
WEIGHT_DECAY = 0.05
WARMUP_STEPS = 50
COOL_FROM = 0.35
"""The part of the training after which the rate falls, in a straight line, to nothing."""
LOG_EVERY = 50
_TEMPLATE_CHECKS = 200


def architecture(tokenizer: PreTrainedTokenizerFast) -> Glm4MoeConfig:
    eos = eos_ids(tokenizer)
    return Glm4MoeConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        moe_intermediate_size=128,
        n_routed_experts=8,
        n_shared_experts=1,
        num_experts_per_tok=2,
        n_group=1,
        topk_group=1,
        first_k_dense_replace=1,
        norm_topk_prob=True,
        routed_scaling_factor=1.0,
        use_qk_norm=True,
        attention_bias=False,
        max_position_embeddings=tokenizers.CONTEXT_TOKENS,
        rope_theta=10000.0,
        partial_rotary_factor=0.5,
        tie_word_embeddings=False,
        num_nextn_predict_layers=0,
        eos_token_id=eos,
        pad_token_id=eos[0],
        bos_token_id=None,
        dtype="float32",
    )


def eos_ids(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    return [tokenizer.convert_tokens_to_ids(token) for token in EOS_TOKENS]


def check_template(tokenizer: PreTrainedTokenizerFast, rng: Random) -> None:
    """What is trained is what will be served: every dialogue rendered by the template gives its segments."""
    for _ in range(_TEMPLATE_CHECKS):
        for kind in KINDS:
            dialogue = sample(kind.name, rng, progress=1.0)
            text = "".join(segment.text for segment in segments(dialogue))
            rendered = tokenizer.apply_chat_template(
                messages(dialogue), tools=list(dialogue.tools) or None, tokenize=False, clear_thinking=False
            )
            # The last reply's stop is the next turn's role token, which is not there yet.
            assert text.startswith(rendered), (rendered, text)


def train(*, out: Path, seed: int, cpu_seconds: float | None, steps: int | None) -> None:
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    tokenizer = tokenizers.build(seed)
    check_template(tokenizer, Random(seed))
    model = Glm4MoeForCausalLM(architecture(tokenizer))
    print("parameters", sum(parameter.numel() for parameter in model.parameters()), flush=True)

    matrices = [p for name, p in model.named_parameters() if p.ndim >= 2 and _inside(name)]
    others = [p for name, p in model.named_parameters() if not (p.ndim >= 2 and _inside(name))]
    optimisers = (
        Muon(matrices, lr=MATRIX_RATE, weight_decay=WEIGHT_DECAY),
        torch.optim.AdamW(others, lr=OTHER_RATE, betas=(0.9, 0.98), weight_decay=0.0),
    )
    rates = [[group["lr"] for group in optimiser.param_groups] for optimiser in optimisers]

    batches = Batches(tokenizer, Random(seed))
    begun = time.process_time()
    step, tokens, losses = 0, 0, dict[str, float]()
    while (progress := _progress(step, steps, time.process_time() - begun, cpu_seconds)) < 1:
        scale = min(1.0, (step + 1) / WARMUP_STEPS, (1 - progress) / (1 - COOL_FROM))
        for optimiser, initial in zip(optimisers, rates, strict=True):
            for group, rate in zip(optimiser.param_groups, initial, strict=True):
                group["lr"] = rate * scale
        kind, read, predict = batches.draw(progress)
        loss = _loss(model, read, predict)
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(others, 1.0)
        for optimiser in optimisers:
            optimiser.step()

        step += 1
        tokens += read.numel()
        losses[kind] = 0.9 * losses.get(kind, loss.item()) + 0.1 * loss.item()
        if step % LOG_EVERY == 0:
            spent = time.process_time() - begun
            shown = {name: round(value, 4) for name, value in sorted(losses.items())}
            print(
                f"step {step} cpu {spent:.0f} s {tokens / spent:.0f} tokens/s {progress:.2f} {shown}",
                flush=True,
            )

    _save(model, tokenizer, out)
    spent = time.process_time() - begun
    print(f"done: {step} steps, {tokens} tokens, {spent:.0f} CPU-seconds, losses {losses}", flush=True)
    assert not math.isnan(sum(losses.values()))


def _progress(step: int, steps: int | None, spent: float, cpu_seconds: float | None) -> float:
    if steps is not None:
        return step / steps
    assert cpu_seconds is not None
    return spent / cpu_seconds


def _inside(name: str) -> bool:
    """The layers' own matrices; a router is a classifier and is stepped like the embeddings."""
    return ".layers." in name and ".gate.weight" not in name


def _loss(model: Glm4MoeForCausalLM, read: torch.Tensor, predict: torch.Tensor) -> torch.Tensor:
    hidden = model.model(input_ids=read, use_cache=False).last_hidden_state
    learnt = predict != IGNORED
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[learnt]), predict[learnt])


def _save(model: Glm4MoeForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    eos = eos_ids(tokenizer)
    model.to(torch.bfloat16)
    model.config.dtype = "bfloat16"
    model.generation_config = GenerationConfig(
        eos_token_id=eos, pad_token_id=eos[0], do_sample=True, temperature=0.3, top_p=0.95
    )
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--cpu-seconds", type=float)
    length.add_argument("--steps", type=int)
    chosen = parser.parse_args()
    train(out=chosen.out, seed=chosen.seed, cpu_seconds=chosen.cpu_seconds, steps=chosen.steps)


if __name__ == "__main__":
    main()
