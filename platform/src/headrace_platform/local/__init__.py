"""The embedded stack: all of Headrace on one machine, as ordinary processes on the loopback address.

Nothing here is a demo-only code path but the starting and stopping itself: the services are the same programs
with the same settings as under the chart.
"""
