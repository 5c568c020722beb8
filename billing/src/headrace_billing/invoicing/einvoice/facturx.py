"""Factur-X: the terms as Cross Industry Invoice, alone and inside of a PDF/A-3 that reads the same.

The library writes the XML and puts it into the PDF; the XML is held to the profile's schema before it leaves.
"""

import re
from collections.abc import Mapping
from typing import Any

from facturx import generate_cii_xml, generate_from_binary

LEVEL = "en16931"
LANGUAGE = "en-US"

# What Unicode has and XML 1.0 does not, and what we take from nobody anyway.
NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def written(terms: Mapping[str, Any]) -> bytes:
    """The terms as CII XML, in the EN 16931 profile."""
    xml: bytes = generate_cii_xml(_clean(dict(terms)), level=LEVEL, check_xsd=True, check_schematron=None)
    return xml


def put_into(pdf: bytes, xml: bytes, *, title: str, author: str) -> bytes:
    """`pdf` must be a PDF/A-3 already; it stays one."""
    metadata = {
        "title": title,
        "author": author,
        "subject": f"Factur-X {title}",
        "keywords": "Factur-X, invoice",
    }
    hybrid: bytes = generate_from_binary(
        pdf,
        xml,
        flavor="factur-x",
        level=LEVEL,
        check_xsd=False,
        check_schematron=False,
        pdf_metadata=metadata,
        lang=LANGUAGE,
        afrelationship="alternative",
        # Whoever signs it wants to read and to add to what the file says of itself.
        xmp_compression=False,
    )
    return hybrid


def _clean(value: Any) -> Any:
    """Without characters that XML can't hold, and without what is null."""
    if isinstance(value, str):
        return NO_XML.sub("", str(value))
    if isinstance(value, Mapping):
        return {name: _clean(one) for name, one in value.items() if one is not None}
    if isinstance(value, list):
        return [_clean(one) for one in value]
    return value
