"""The engine of LightReasoner Studio: models, divergence, sampling, training, evaluation, jobs. Imports no Gradio."""

__version__ = "0.5.0"
