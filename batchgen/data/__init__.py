"""What is not moved yet."""
