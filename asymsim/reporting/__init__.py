"""Tables, listings and figures for people, made from finished results without computing any."""
