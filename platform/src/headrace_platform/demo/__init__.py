"""The main job: from an API key to a reconciled invoice, on a running stack, by public interfaces alone.

`headrace demo` does what a customer, a seller and a bad day would do, checks every claim that Headrace makes
about usage and money on the way, and exits non-zero with the reason when one does not hold.
"""
