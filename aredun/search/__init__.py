"""Search: filters, pages and ids, and the statements that answer them."""
