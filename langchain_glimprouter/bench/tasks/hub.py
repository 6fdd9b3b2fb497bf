"""Gets files of data sets from the Hugging Face hub, once; they stay in its cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from langchain_glimprouter.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class HubFiles:
    """Files of a data set on the hub.

    Attributes:
        repo: The data set.
        files: Their paths in it.
        revision: Branch, tag or commit; `None` is the newest.
    """

    repo: str
    files: tuple[str, ...]
    revision: str | None = None

    def paths(self) -> list[Path]:
        """Return the files on this machine, after getting those that are not there yet.

        Raises:
            ConfigurationError: If that cannot be; the message tells the way out.
        """
        return [self._path(file) for file in self.files]

    def within(self, folder: Path) -> list[Path]:
        """Return the files in a local copy of the data set.

        Raises:
            ConfigurationError: If one is not there.
        """
        found = []
        for file in self.files:
            places = [folder / file, folder / Path(file).name]
            there = next((place for place in places if place.is_file()), None)
            if there is None:
                msg = f"--data {folder}: there is no {file}; give the file itself or another folder"
                raise ConfigurationError(msg)
            found.append(there)
        return found

    def _path(self, file: str) -> Path:
        address = f"https://huggingface.co/datasets/{self.repo}"
        instead = f"or get {file} from {address} yourself and give its place (--data)"
        try:
            from huggingface_hub import errors, hf_hub_download
        except ImportError:
            msg = f"{self.repo} is on the Hugging Face hub: pip install huggingface-hub, {instead}"
            raise ConfigurationError(msg) from None
        try:
            found = hf_hub_download(self.repo, file, repo_type="dataset", revision=self.revision)
        except errors.GatedRepoError:
            why = f"is gated: accept its terms at {address}, log in with 'hf auth login'"
        except errors.RevisionNotFoundError:
            why = f"has no revision {self.revision!r}: give another"
        except errors.RepositoryNotFoundError:
            why = "is not on the hub, or private: log in with 'hf auth login'"
        except errors.RemoteEntryNotFoundError:
            why = f"has no file {file!r}: give an older revision"
        except OSError as error:  # offline, unreachable, a server's error, a full disk
            why = f"cannot be had ({_first_line(error)}): try again with a network"
        else:
            return Path(found)
        msg = f"the data set {self.repo} {why}, {instead}"
        raise ConfigurationError(msg)


def _first_line(error: OSError) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
