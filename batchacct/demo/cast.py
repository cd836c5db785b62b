"""Who and what appears on the demo farm: VOs, people, proxies, hosts, commands, ways to die."""

from __future__ import annotations

VOS = ("atlas", "cms", "lhcb")

_PEOPLE = (
    "Ada Lovelace",
    "Emmy Noether",
    "Lise Meitner",
    "Robot: Pilot1",
    "Robot: Pilot2",
    "Maria Goeppert-Mayer",
    "Chien-Shiung Wu",
)
_AUTHORITIES = (
    "/DC=ch/DC=cern/OU=Organic Units/OU=Users",
    "/O=GermanGrid/OU=UniExample",
    "/C=UK/O=eScience/OU=Example",
)

DNS: dict[str, tuple[str, ...]] = {
    vo: tuple(f"{_AUTHORITIES[(place + offset) % 3]}/CN={vo[:3]}{place:02d}/CN={person}" for place, person in enumerate(_PEOPLE))
    for offset, vo in enumerate(VOS)
}

FQANS: dict[str, tuple[tuple[str, ...], ...]] = {
    vo: (
        (f"/{vo}/Role=pilot/Capability=NULL", f"/{vo}/Role=NULL/Capability=NULL"),
        (
            f"/{vo}/Role=production/Capability=NULL",
            f"/{vo}/Role=NULL/Capability=NULL",
            f"/{vo}/{group}/Role=NULL/Capability=NULL",
        ),
        (f"/{vo}/Role=NULL/Capability=NULL",),
        (
            f"/{vo}/{group}/Role=NULL/Capability=NULL",
            f"/{vo}/Role=NULL/Capability=NULL",
            f"/{vo}/ch/Role=NULL/Capability=NULL",
            "/wlcg/Role=NULL/Capability=NULL",
        ),
    )
    for vo, group in zip(VOS, ("higgs", "uscms", "charm"), strict=True)
}

LOCAL_USERS = (
    ("anna", "/x_FOO/anna"),
    ("bruno", "/x_FOO/sub/bruno"),
    ("chiara", "/x_BAR/chiara"),
    ("dmitri", "/atlasgrp/dmitri"),
    ("elin", "/atlasgrp/elin"),
    ("farid", "/x_NOWHERE/farid"),
    ("greta", "/greta"),
    ("hugo", ""),
)
"""Account and share account: mapped groups, one that no map knows, a user without group, and none at all."""

EXEC_HOSTS = tuple(f"lxb{number:04d}.example.org" for number in range(1, 61))

WRAPPER = "export X509_USER_PROXY=$new_home/proxy;export HOME=$new_home;cd $new_home; ./jobWrapper.sh;exit $?"

KILLS = ((36608, 5), (36608, 14), (33280, 6), (130, 15), (9, 16), (38912, 12))
"""Exit status, a raw wait() status, and exit reason, of jobs that LSF or somebody killed."""

ODD_COMMANDS = (
    'echo "first line\nsecond line" | mail -s "done" anna',
    '"exec" "sh" -c "./run"',
    "awk '{print $1}' it's.log",
    "C:\\work\\run.bat \\",
    "./fit (a[0] --open {",
    "./analyse --name Müller --città Zürich",
    "./hist \udca1 --bins 10",
    '""',
    'grep \'^"JOB_FINISH" "7.06"\' lsb.acct',
    "",
)
"""Commands that trip readers of lsb.acct; the first has a newline, one a byte 0xA1 that is no UTF-8."""
