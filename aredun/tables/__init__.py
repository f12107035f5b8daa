"""What the tables are made of: column types, relationships, and what models do beside holding columns."""
