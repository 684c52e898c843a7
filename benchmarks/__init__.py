"""Commands that make every number and picture in the documentation."""
