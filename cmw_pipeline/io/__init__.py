"""The only room that writes files: whole or not at all, with a manifest, verified when read."""
