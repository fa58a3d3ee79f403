"""Publishing datasets, adapters, merged models and Spaces on the Hub, and pulling datasets back."""
