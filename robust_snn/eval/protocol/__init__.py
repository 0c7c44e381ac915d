"""What is asked: suites, threat models, rows of attacks, corruptions."""
