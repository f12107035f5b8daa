"""Work on an event loop: long work gives way to others, and what was begun comes to its end."""
