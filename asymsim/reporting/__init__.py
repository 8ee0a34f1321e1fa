"""Tables, listings and figures for people; nothing is computed here."""
