"""The pictures of the viewer in README and docs: in a real browser, of the demo and a larger example."""
