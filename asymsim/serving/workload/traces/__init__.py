"""Request traces, recorded by others or by the user."""
