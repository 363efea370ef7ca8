"""Fine-tunes a network on the user's photos: inspection, split, linear head, training, report."""
