"""Transfer: records read, checked, ordered and written in bulk; sync and verify."""
