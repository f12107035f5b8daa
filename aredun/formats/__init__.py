"""Formats that redun fixes: hashes, bencode, tags, statuses, versions; no database."""
