"""A stand-in for the parts of Stripe that payments use: real HTTP, real signatures, and state that behaves like Stripe's.

It imitates what Stripe documents for the objects, test cards, idempotency keys and webhooks. It serves no card form and
no bank, so a test does as the customer or the bank would by `world`.
"""
