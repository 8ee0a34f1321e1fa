"""Many scenarios at once, in compiled blocks."""
