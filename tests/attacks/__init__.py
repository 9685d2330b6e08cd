"""Attacks on a running proxy, as data: one table for each kind, one row for each case.

The tables, and the runner that holds a proxy against them, know neither pytest nor the harness.
"""
