"""Recording: values, calls, jobs, tags and handles as rows, and the caches that read them back."""
