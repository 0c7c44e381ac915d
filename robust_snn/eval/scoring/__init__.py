"""What the numbers are: noise draws, intervals, the verdict and the checks of it."""
