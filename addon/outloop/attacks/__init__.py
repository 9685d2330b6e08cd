"""Attacks on a running proxy, as data: one table for each kind, one row for each case.

`outloop doctor --attack` and tests/attacks hold the proxy against them; nothing else knows this room.
"""
