"""How fast Embargo and its peers read the same documents with the same checkpoint, side by side.

`make bench` runs `python -m benchmarks`. Every system is a small class (systems/) in a process of its
own (worker.py), in an environment of its own where its pins clash (environments.py). The controller
lets them read by turns, A B C A B C (rounds.py), and reports medians of ratios (report.py).
"""
