"""redun's own scheduler on aredun: an event loop on a thread, calls from other threads, writes behind."""
