"""How it runs: checks before the first attack, shards, workers, the folder of a run."""
