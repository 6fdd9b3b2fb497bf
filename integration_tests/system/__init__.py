"""Tests of what a program does to its machine: processes, sandboxes, a browser. No model."""
