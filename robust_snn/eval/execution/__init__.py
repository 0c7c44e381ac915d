"""How a run goes: checks before the first attack, shards, workers, the folder of a run."""
