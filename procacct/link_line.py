"""What a linker was asked to do, and whether its output gets a signature.

The options are those that GNU ld, gold, lld and mold share (ld(1)). Response files (`@FILE`) are looked into as the linkers do it:
words apart by blanks, quotes and backslashes as in libiberty's `buildargv`.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

TAKES_A_WORD = frozenset({
    "-A", "-F", "-G", "-I", "-L", "-P", "-R", "-T", "-Y", "-a", "-b", "-c", "-d", "-e", "-f", "-h", "-l", "-m", "-o", "-u",
    "-y", "-z", "--architecture", "--auxiliary", "--defsym", "--default-script", "--dependency-file", "--dynamic-linker",
    "--dynamic-list", "--entry", "--exclude-libs", "--filter", "--fini", "--format", "--init", "--just-symbols", "--library",
    "--library-path", "--mri-script", "--oformat", "--output", "--plugin", "--plugin-opt", "--require-defined",
    "--retain-symbols-file", "--rpath", "--rpath-link", "--script", "--section-start", "--soname", "--sysroot",
    "--trace-symbol", "--undefined", "--version-script", "--wrap", "--Map", "--Tbss", "--Tdata", "--Ttext", "--Ttext-segment",
    "--Trodata-segment", "--Tldata-segment",
})  # fmt: skip
"""Options whose value is the next word; those with two dashes are known with one, too."""
RELOCATABLE = frozenset({"-r", "-i", "-Ur", "--relocatable"})
TELLS_ITS_INPUTS = frozenset({"-t", "--trace", "-M", "--print-map", "--verbose", "--reproduce"})
TELLS_OF_PROPERTIES = ("cet-report", "bti-report", "gcs-report", "force-bti", "force-ibt", "pac-plt")
"""Beginnings of values of -z."""
BARE = frozenset({"-N", "--omagic", "-n", "--nmagic"})
SCRIPTS = frozenset({"-T", "--script", "-c", "--mri-script", "--default-script", "-dT", "-flavor"})
KNOWN = TAKES_A_WORD | RELOCATABLE | TELLS_ITS_INPUTS | SCRIPTS | BARE
UNSIGNED_OUTPUTS = ("conftest", "conftest.*", "_configtest*", "cmTC_*", "cmTryCompileExec*", "*.ko", "vmlinux*", ".tmp_vmlinux*")
"""What configure scripts, setuptools, CMake's tests and the kernel's build link."""
UNSIGNED_FOLDERS = ("meson-private", "CMakeTmp", "CMakeScratch", "config.tests")
MOST_RESPONSE_FILES = 100


class LinkLine(NamedTuple):
    """`words` with the response files put in; `inputs` are words that may name files, in their order."""

    words: tuple[str, ...]
    inputs: tuple[str, ...]
    options: tuple[tuple[str, str | None], ...]
    output: str

    def value(self, name: str) -> str | None:
        """The last value of an option."""
        return next((value for known, value in reversed(self.options) if known == name), None)


def read_link_line(arguments: Sequence[str]) -> LinkLine:
    """The arguments (without the linker's name) as options and inputs.  Raises: OSError, ValueError for a response file."""
    words = tuple(_with_response_files(arguments))
    inputs: list[str] = []
    options: list[tuple[str, str | None]] = []
    following = iter(words)
    for word in following:
        name, value = _option(word)
        if name is None:
            inputs.append(word)
        elif value is None and name in TAKES_A_WORD:
            options.append((name, next(following, "")))
        else:
            options.append((name, value))
    output = next((v for n, v in reversed(options) if n in ("-o", "--output") and v), "a.out")
    return LinkLine(words, tuple(inputs), tuple(options), output)


def why_unsigned(line: LinkLine) -> str | None:
    """The reason for which the output of this link gets no signature; None if it gets one."""
    names = {name for name, _ in line.options}
    output = Path(line.output)
    reasons = {
        "it is an object file again": bool(names & RELOCATABLE),
        "the linker tells its inputs, which would have one more": bool(names & TELLS_ITS_INPUTS),
        "a linker script decides where sections go": bool(names & SCRIPTS),
        "it is to have no notes": bool(names & BARE) or line.value("--build-id") == "none",
        "it is no ELF file": not (line.value("--oformat") or "elf").startswith("elf"),
        "it is a test of a configure script, or a part of a kernel": any(
            fnmatch.fnmatchcase(output.name, p) for p in UNSIGNED_OUTPUTS
        ),
        "it is a test of a build system": bool(set(UNSIGNED_FOLDERS) & {*output.parts, *Path.cwd().parts}),
        "its output is no file": output.exists() and not output.is_file(),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _option(word: str) -> tuple[str | None, str | None]:
    """Name (as it stands in the sets above) and value of an option in one word; (None, None) of anything else."""
    if not word.startswith("-") or word == "-":
        return None, None
    if word in KNOWN:
        return word, None
    name, equals, value = word.partition("=")
    long = name if name.startswith("--") else f"-{name}"
    if long in KNOWN:
        return long, value if equals else None
    for short in ("-T", "-o", "-z"):
        if word.startswith(short):
            return short, word[2:]
    return (name, value) if equals else (word, None)


def _with_response_files(arguments: Sequence[str]) -> Iterator[str]:
    waiting = list(reversed(arguments))
    opened = 0
    while waiting:
        word = waiting.pop()
        path = Path(word[1:])
        if not word.startswith("@") or not path.is_file():
            yield word
            continue
        opened += 1
        if opened > MOST_RESPONSE_FILES:
            raise ValueError("response files name each other")
        text = path.read_bytes().decode("utf-8", "surrogateescape")
        waiting.extend(reversed(list(_words(text))))


def _words(text: str) -> Iterator[str]:
    """The words of a response file."""
    word: list[str] = []
    begun = False
    quote = ""
    characters = iter(text)
    for character in characters:
        if character == "\\":
            word.append(next(characters, ""))
        elif quote:
            quote = "" if character == quote else quote
            word.extend(character if quote else "")
        elif character in "'\"":
            quote = character
        elif not character.isspace():
            word.append(character)
        elif begun:
            yield "".join(word)
            word, begun = [], False
            continue
        else:
            continue
        begun = True
    if begun:
        yield "".join(word)
