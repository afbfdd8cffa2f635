"""Estimators: numbers with intervals, from tidy tables with a row for each run and point.

Each function takes a table (pandas) with the column `seed` and returns an `Estimate`. The seeds are
the independent draws; whatever was measured several times within a seed is one draw. The modules
import nothing of the rest of the package.
"""
