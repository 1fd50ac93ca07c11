"""The search: START HERE is `driver.py`."""
