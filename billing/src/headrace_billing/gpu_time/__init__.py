"""How long deployments held accelerators. Kept and told, not priced: what a contract makes of it is not known here."""
