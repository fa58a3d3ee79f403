"""The Improve tab: experiments, each of which samples, fine-tunes and evaluates in one go."""
