"""Loading models and pairs: references, weights, tokenizers, vocabularies, prompts, devices."""
