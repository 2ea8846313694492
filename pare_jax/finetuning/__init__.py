"""Fine-tunes a trained network on the user's own photographs and clips."""
