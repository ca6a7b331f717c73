"""Risk, horizon and apples: choices between A and B whose label follows from stated numbers.

Paper A (arXiv:2501.11120, section 3.1.1) trains on such rows and asks the model afterwards what it does. All wording
and all numbers here are our own. Each of the three modules has a `GENERATOR`.
"""
