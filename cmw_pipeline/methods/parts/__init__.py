"""What several methods share; none of it is a method."""
