"""Photos of one's own to files for a device: inspect, split, linear head, fine-tuning, page."""
