"""The engine of LightReasoner Studio: models, divergence, tracing. Imports no Gradio."""

__version__ = "0.1.0"
