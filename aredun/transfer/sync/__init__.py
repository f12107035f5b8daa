"""Sync: what is missing in one repository, copied from another."""
