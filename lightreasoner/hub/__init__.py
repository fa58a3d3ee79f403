"""The Hugging Face Hub: downloads, tokens, error messages, redaction of what leaves."""
