"""Run in the engine's environment: a model of GLM-ASR's architecture, small enough for a test, without weights.

Its folder has what vLLM reads beside weights, which `--load-format dummy` makes up. It hears nothing, and counts as the
large one does.
"""

import sys
from pathlib import Path

from transformers import AutoTokenizer, GlmAsrConfig, GlmAsrProcessor, WhisperFeatureExtractor

MARKS = ["<|pad|>", "<|begin_of_audio|>", "<|end_of_audio|>"]
TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"
CONTEXT_TOKENS = 8192


def main(tokens_of: str, folder: Path) -> None:
    """`tokens_of`: where a tokenizer is that is lent to it."""
    tokenizer = AutoTokenizer.from_pretrained(tokens_of)
    tokenizer.add_special_tokens({"additional_special_tokens": MARKS})
    tokenizer.chat_template = TEMPLATE
    tokenizer.model_max_length = CONTEXT_TOKENS
    processor = GlmAsrProcessor(WhisperFeatureExtractor(feature_size=128), tokenizer, chat_template=TEMPLATE)
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 32}
    config = GlmAsrConfig(
        audio_config={
            "model_type": "glmasr_encoder",
            "hidden_size": 64,
            "intermediate_size": 256,
            "num_hidden_layers": 1,
            "num_mel_bins": 128,
            **heads,
        },
        text_config={
            "model_type": "llama",
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 1,
            "max_position_embeddings": CONTEXT_TOKENS,
            **heads,
        },
        audio_token_id=tokenizer.convert_tokens_to_ids(MARKS[0]),
        architectures=["GlmAsrForConditionalGeneration"],
    )
    processor.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    config.save_pretrained(folder)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
