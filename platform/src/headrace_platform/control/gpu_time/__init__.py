"""How long a deployment's pods hold accelerators: observed, recorded, sent to billing once an hour."""
