"""Which of the Globus parsers recognises which sample of any format: its own alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchacct.parsing.registry import HEAD_BYTES
from cecol import blah, gram, gram_audit, lcmaps, voms_accounting
from tests.cecol.gram_wholes import SAMPLES

PARSERS = (blah.PARSER, gram.PARSER, gram_audit.PARSER, lcmaps.PARSER, voms_accounting.PARSER)
OURS = {
    "gram": {
        *("gram/globus-gatekeeper.failures.log", "gram/globus-gatekeeper.osg-2009.log", "gram/gram-accounting.nersc-sge-2008.log"),
        *("gram/gram-accounting.ngs-2010.log", "gram/gridinfo-syslog.osg-2006.log"),
        *("globus-site/accounting.log", "globus-site/globus-gatekeeper.log"),
    },
    "gram-audit": {
        *("gram/ok.gramaudit", "gram/non-existing-username.gramaudit", "gram/too-few-fields.gramaudit"),
        "gram/invalid-queued-timestamp.gramaudit",
    },
    "lcmaps": {
        *("gram/lcas_lcmaps.log", "gram/lcmaps.argus-gridpp-2018.log", "gram/messages.gatekeeper-lcmaps-2011.log"),
        *("gram/messages.glexec-2012.log", "globus-site/messages"),
    },
    "voms-accounting": {"gram/ngs-voms-accounting-2010.log", "globus-site/voms.log"},
}
FILES = sorted(path for path in SAMPLES.parent.rglob("*") if path.is_file())


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_sample_is_recognised_by_its_parser_alone(path: Path) -> None:
    head = path.read_bytes()[:HEAD_BYTES]
    name = f"{path.parent.name}/{path.name}"
    expected = [parser for parser, names in OURS.items() if name in names]
    assert [p.name for p in PARSERS if p.name != "blah" and p.recognises(head)] == expected
    if expected:
        assert not blah.PARSER.recognises(head)
