"""What it comes to: noise draws, intervals, the verdict and the checks of it."""
