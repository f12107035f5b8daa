"""What the commands take: nothing here waits for the database library, so that help is there at once."""
