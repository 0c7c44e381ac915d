"""The fused spiking loop: one forward for every gradient mode, a backward for each kind of rule."""
