"""Fine-tuning: one training loop, its recipes as data, and what it trains."""
