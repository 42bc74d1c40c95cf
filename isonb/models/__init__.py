"""Pure single-device torch: encodings, blocks, the network and its objective. Knows no files, ranks or schedules."""
