"""The wire shapes that two processes of Headrace exchange, and the Valkey keys where they meet.

Fields are only ever added, and an added field has a default: a gateway and a biller of neighbouring
releases must read each other. Nothing here decides anything, and nothing is imported but msgspec.
"""
