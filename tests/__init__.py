"""A folder for each room of the package, ``journeys`` for what a user does, ``support`` for helpers."""
