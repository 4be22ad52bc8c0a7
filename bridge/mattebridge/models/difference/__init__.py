"""`difference`: the classical keyer from plate and clean plate, without weights."""
