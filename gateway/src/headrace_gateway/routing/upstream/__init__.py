"""The gateway's own HTTP/1.1 client: what it needs of one, at a tenth of a library's cost.

It owns connections to engines: a keep-alive pool, timeouts, bounds, backpressure. It does not own what is said
on them (dialects), nor whether to try again (`routing.attempts`).
"""
