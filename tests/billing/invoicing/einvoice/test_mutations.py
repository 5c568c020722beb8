"""The published rules bite: an e-invoice that lacks or twists a thing breaks the rule that is about it.

So an e-invoice that breaks none has all of this as it should be.
"""

import re

from tests.billing.invoicing.einvoice import documents
from tests.support.schematron import broken_rules

NOT_LISTED = "Value of '{}' is not allowed."
"""What the rules about lists of codes say of themselves: they have no ids here."""

# (what to find in the XML, what to put in its place, the rule that must break)
MUTATIONS = (
    (r"<ram:ID>urn:cen.eu:en16931:2017</ram:ID>", "", "BR-01"),
    (r"<ram:ID>HR-000001</ram:ID>", "", "BR-02"),
    (r"<ram:TypeCode>380</ram:TypeCode>", "", "BR-04"),
    (r"<ram:TypeCode>380</ram:TypeCode>", "<ram:TypeCode>4711</ram:TypeCode>", NOT_LISTED.format("ram:TypeCode")),
    (r"<ram:InvoiceCurrencyCode>USD</ram:InvoiceCurrencyCode>", "", "BR-05"),
    (r"<ram:Name>Headrace Mills Ltd</ram:Name>", "", "BR-06"),
    (r"<ram:Name>Mühlgraben Analytik GmbH</ram:Name>", "", "BR-07"),
    (r"<ram:CountryID>GB</ram:CountryID>", "", "BR-09"),
    (r"<ram:CountryID>DE</ram:CountryID>", "", "BR-11"),
    (r"<ram:CountryID>DE</ram:CountryID>", "<ram:CountryID>XX</ram:CountryID>", NOT_LISTED.format("ram:CountryID")),
    (r"<ram:LineTotalAmount>137.26</", "<ram:LineTotalAmount>137.25</", "BR-CO-10"),
    (r"<ram:TaxBasisTotalAmount>137.26</", "<ram:TaxBasisTotalAmount>137.27</", "BR-CO-13"),
    (r"<ram:TaxTotalAmount currencyID=\"USD\">13.04</", '<ram:TaxTotalAmount currencyID="USD">13.05</', "BR-CO-14"),
    (r"<ram:GrandTotalAmount>150.30</", "<ram:GrandTotalAmount>150.31</", "BR-CO-15"),
    (r"<ram:TotalPrepaidAmount>68.63</ram:TotalPrepaidAmount>", "", "BR-CO-16"),
    (r"<ram:DuePayableAmount>81.67</", "<ram:DuePayableAmount>81.66</", "BR-CO-16"),
    (r"<ram:DuePayableAmount>81.67</ram:DuePayableAmount>", "", "BR-15"),
    (r"<ram:GrandTotalAmount>150.30</", "<ram:GrandTotalAmount>150.300</", "BR-DEC-14"),
    (r"<ram:LineID>1</ram:LineID>", "", "BR-21"),
    (r"<ram:BilledQuantity unitCode=\"C62\">1234567</ram:BilledQuantity>", "", "BR-22"),
    (r"<ram:BilledQuantity unitCode=\"C62\">", '<ram:BilledQuantity unitCode="token">', NOT_LISTED.format("@unitCode")),
    (r"<ram:LineTotalAmount>37.04</ram:LineTotalAmount>", "", "BR-24"),
    (r"<ram:Name>glm-tiny, input tokens</ram:Name>", "", "BR-25"),
    (r"<ram:ChargeAmount>30</ram:ChargeAmount>", "", "BR-26"),
    (r"<ram:ChargeAmount>30</", "<ram:ChargeAmount>-30</", "BR-27"),
    (r"<ram:CategoryCode>S</ram:CategoryCode>\s*<ram:RateApplicablePercent>19</ram:RateApplicablePercent>\s*</ram:ApplicableTradeTax>\s*<ram:SpecifiedTradeSettlementLine", "</ram:ApplicableTradeTax><ram:SpecifiedTradeSettlementLine", "BR-CO-04"),
    (r"<ram:BasisAmount>68.63</ram:BasisAmount>\s*<ram:CategoryCode>S", "<ram:BasisAmount>60.00</ram:BasisAmount><ram:CategoryCode>S", "BR-S-08"),
    (r"<ram:CalculatedAmount>13.04</", "<ram:CalculatedAmount>23.04</", "BR-S-09"),
    (r"<ram:SpecifiedTaxRegistration>.*?</ram:SpecifiedTaxRegistration>", "", "BR-S-02"),
    (r"<ram:ExemptionReason>.*?</ram:ExemptionReason>", "", "BR-E-10"),
    (r"<ram:ID schemeID=\"VA\">GB980780684</", '<ram:ID schemeID="VA">??980780684</', "BR-CO-09"),
    (r"<ram:IBANID>.*?</ram:IBANID>", "", "BR-50"),
    (r"schemeID=\"EM\"", 'schemeID="ZZ"', NOT_LISTED.format("@schemeID")),
    (r"<ram:TypeCode>30</ram:TypeCode>", "<ram:TypeCode>999</ram:TypeCode>", NOT_LISTED.format("ram:TypeCode")),
)  # fmt: skip


def test_each_thing_that_is_broken_breaks_the_rule_that_is_about_it() -> None:
    whole = documents.xml(documents.document()).decode()
    broken = []
    for pattern, put, _ in MUTATIONS:
        changed, times = re.subn(pattern, put, whole, count=1, flags=re.DOTALL)
        assert times == 1, pattern
        broken.append(changed.encode())
    found = broken_rules([whole.encode(), *broken])
    assert found[0] == set()
    missed = [
        (rule, pattern, seen)
        for (pattern, _, rule), seen in zip(MUTATIONS, found[1:], strict=True)
        if rule not in seen
    ]
    assert missed == []
