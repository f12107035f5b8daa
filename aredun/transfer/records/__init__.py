"""Records: read, walked and written in bulk, streaming and in bounded memory."""
