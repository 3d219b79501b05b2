"""How each method trains: what it makes of the rows, which trainer it runs them through, what it leaves."""
