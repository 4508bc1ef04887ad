"""Zip and tar files as a source of data: unpacked once into the cache, whoever sent them."""
