"""The benchmark on a GPU: the same questions at sizes that fill the card, timed by its own events.

Every part is a generator of tables that grow: what is measured is on disk before the next group.
On a CPU the same code runs with a plain clock, for tests of itself.
"""
