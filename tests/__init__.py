"""Tests mirror the package: tests/model/test_cameras.py asks about scaledreamer/model/cameras.py."""
