"""Publishing datasets, adapters and Spaces on the Hub, and getting them back."""
