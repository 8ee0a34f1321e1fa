"""GPUs, models, image rules, number formats, engines and published accuracy: data with sources."""
