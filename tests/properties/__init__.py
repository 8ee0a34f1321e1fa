"""What must hold for every model, load and schedule, on random ones."""
