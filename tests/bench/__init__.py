"""What Outloop costs, beside bare mitmdump and no proxy at all: `scripts/bench`. Nothing in here is a test.

Machines differ and drift, so figures are compared within one run only: the sides take turns in short rounds, each round gives a
ratio, and what counts is the median of those. Only work that waits for nothing is given in absolute figures.
"""
