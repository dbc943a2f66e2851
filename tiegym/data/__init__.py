"""Text as tokens: where it comes from, splits, tokenizers, their cache. Knows no transformer."""
