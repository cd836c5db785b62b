"""The section of the configuration that says which programs are one application."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from batchacct.sections import Section, key

_Pattern = Annotated[str, Field(min_length=1)]


class Application(Section):
    """What ran counts as `name` if one pattern given here matches; the first application that matches decides."""

    name: str = key("name, as reports and usage records have it", sample="geant4", min_length=1, max_length=255)
    programs: list[_Pattern] | None = key(
        "paths of programs (with * and ?, which match / too)", None, sample=["/cvmfs/*/geant4/*", "/opt/geant4/bin/*"]
    )
    modules: list[_Pattern] = key("environment modules that were loaded (with * and ?)", [], sample=["Geant4/*"])
    signatures: list[_Pattern] = key("signatures of programs (with * and ?)", [])

    @model_validator(mode="after")
    def _some(self) -> Application:
        if not (self.programs or self.modules or self.signatures):
            raise ValueError("give programs, modules or signatures: what counts as this application")
        return self
