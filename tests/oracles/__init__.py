"""Independent answers that the tests hold the simulator against."""
