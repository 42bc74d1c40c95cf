"""The compute half: data, checkpoints, pre-training and linear probes. Writes result files."""
