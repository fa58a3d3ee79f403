"""Fine-tuning the expert with LoRA on selected steps."""
