"""The mathematics: divergence per step, contrastive targets, significance of differences."""
