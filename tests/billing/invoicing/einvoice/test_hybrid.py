"""Factur-X as a file: a PDF/A-3 that people read as ever, with the XML in it that programs read."""

import re
from io import BytesIO
from typing import Any

from pypdf import PdfReader

from tests.billing.invoicing.abroad import invoice_abroad
from tests.billing.invoicing.einvoice.parties import e_invoice, say_all, xml_of
from tests.billing.invoicing.shop import Shop
from tests.billing.invoicing.test_document import text_of
from tests.billing.invoicing.test_settlement import WHY


def attached(pdf: PdfReader) -> tuple[Any, bytes]:
    """The file specification of the only file in it, and the file."""
    root: Any = pdf.trailer["/Root"]
    (specification,) = [one.get_object() for one in root["/AF"]]
    name, listed = root["/Names"]["/EmbeddedFiles"]["/Names"]
    assert name == specification["/UF"]
    assert listed.get_object() == specification
    content: bytes = specification["/EF"]["/F"].get_object().get_data()
    return specification, content


def metadata(pdf: PdfReader) -> str:
    root: Any = pdf.trailer["/Root"]
    packet: bytes = root["/Metadata"].get_object().get_data()
    return packet.decode()


def fonts(pdf: PdfReader) -> list[Any]:
    every: list[Any] = []
    for page in pdf.pages:
        resources: Any = page["/Resources"]
        every += [font.get_object() for font in resources["/Font"].values()]
    return [
        one.get_object()["/FontDescriptor"].get_object() for font in every for one in font["/DescendantFonts"]
    ]


async def test_an_invoice_and_a_credit_note_are_pdf_a_3_with_their_xml_inside(shop: Shop) -> None:
    invoice = await invoice_abroad(shop, "USD")
    note = await shop.seller.post(f"/v1/invoices/{invoice['id']}/credit-notes", WHY)
    await say_all(shop)
    for issued in (invoice, note):
        content = await e_invoice(shop, issued, "pdf")
        pdf = PdfReader(BytesIO(content))
        specification, xml = attached(pdf)
        assert xml == await xml_of(shop, issued)
        assert (specification["/F"], specification["/AFRelationship"]) == ("factur-x.xml", "/Alternative")
        said = metadata(pdf)
        assert re.search(r"<pdfaid:part>3</.*<pdfaid:conformance>B</", said, re.DOTALL)
        assert "<fx:DocumentFileName>factur-x.xml</" in said
        assert "<fx:ConformanceLevel>EN 16931</" in said
        assert "<pdfaSchema:namespaceURI>urn:factur-x:pdfa:CrossIndustryDocument:invoice:1p0#</" in said
        # What PDF/A asks of a file beside that: colours that mean something, fonts inside, an id, nothing encrypted.
        root: Any = pdf.trailer["/Root"]
        (intent,) = [one.get_object() for one in root["/OutputIntents"]]
        assert intent["/S"] == "/GTS_PDFA1"
        assert intent["/DestOutputProfile"].get_object().get_data()
        assert fonts(pdf)
        assert all({"/FontFile2", "/FontFile3"} & set(font) for font in fonts(pdf))
        assert "/ID" in pdf.trailer
        assert not pdf.is_encrypted
        assert pdf.metadata is not None
        assert issued["number"] in str(pdf.metadata.title)


async def test_people_read_the_same_and_the_account_that_programs_are_told_of(shop: Shop) -> None:
    invoice = await invoice_abroad(shop, "USD")
    before = text_of((await shop.seller.ask("GET", f"/v1/invoices/{invoice['id']}.pdf")).content)
    await say_all(shop)
    after = text_of(await e_invoice(shop, invoice, "pdf"))
    lost = [line for line in before.splitlines() if line not in after]
    assert lost == []
    assert "GB29 NWBK 6016 1331 9268 19" in " ".join(after.split())
