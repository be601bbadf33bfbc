"""The commands of README, CONTRIBUTING and docs: every line of a code block without a language, or in a shell's."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
FENCE = re.compile(r"^```([\w-]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELLS = ("", "sh", "bash", "shell")
COMMAND = re.compile(r"^(?:[A-Z_]+=\S* )*((?:ladder|make|pip|python|\.ci/run)(?: .*)?)$")


@dataclass(frozen=True, order=True)
class Command:
    """A command as it is typed, without its comment; and the page that holds it."""

    text: str
    page: str

    @property
    def program(self) -> str:
        return self.words[0]

    @property
    def words(self) -> list[str]:
        """The program and its arguments, without variables before it and redirections behind it."""
        return shlex.split(COMMAND.match(self.text).group(1).partition(" >")[0])

    @property
    def variables(self) -> dict[str, str]:
        """The variables that the line sets for the command."""
        before = self.text.removesuffix(COMMAND.match(self.text).group(1))
        return dict(pair.split("=", 1) for pair in before.split())


def commands(*programs: str) -> list[Command]:
    """The distinct commands of all pages that call these programs (default: any), in the order of the pages."""
    found = {}
    for page in PAGES:
        for language, block in FENCE.findall(page.read_text()):
            for line in block.replace("\\\n", " ").splitlines() if language in SHELLS else ():
                text = " ".join(re.sub(r"(^|\s)#.*", "", line).split())
                if COMMAND.match(text):
                    found.setdefault(text, Command(text, page.name))
    return [command for command in found.values() if not programs or command.program in programs]
