"""The page: Gradio only. What it shows comes from the engine in lightreasoner/."""
