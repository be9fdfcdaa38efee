"""Where weights are: shipped with avsal, imported, in the Hub's cache, or on the Hugging Face Hub.

Importing this module does not import torch. huggingface_hub is imported when it is first needed, as
it is slow to import and reads its settings (HF_HOME, HF_ENDPOINT, HF_HUB_OFFLINE, HF_TOKEN and
others) then.
"""

from __future__ import annotations

import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path

from avsal.errors import AvsalError, UsageError, WeightsError
from avsal.version import __version__
from avsal.weights.reading import read_metadata, sha256_of
from avsal.weights.registry import (
    DEFAULT,
    FILE_SUFFIXES,
    FOLD,
    REGISTRY,
    SUFFIX,
    WeightsRow,
    find_row,
    unknown,
)

PACKAGE = Path(__file__).parent  # a wheel has the shipped weights here,
CHECKOUT = PACKAGE.parents[1] / "weights"  # a checkout of the repository there
GRAPHS = "avsal-small.graphs.zip"  # the default network for ONNX Runtime, without weights
SHA256 = re.compile(r"[0-9a-f]{64}")
REPO_VARIABLE = "AVSAL_HUB_REPO"


@dataclass(frozen=True)
class Found:
    """Weights that are on this machine; `where` is "shipped", "imported" or "cached"."""

    path: Path
    where: str


def user_folder() -> Path:
    """The folder of imported weights: AVSAL_HOME/weights, else in the XDG data folder."""
    if home := os.environ.get("AVSAL_HOME"):
        return expanded(home) / "weights"
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return expanded(data) / "avsal" / "weights"


def expanded(text: str) -> Path:
    """Put the home folder in place of a leading ~: the root for a user who has none, as in
    containers that run under any number."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path("/", *Path(text).parts[1:])


def hub_cache() -> Path:
    """The folder in which huggingface_hub keeps what it downloads."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def shipped(file: str) -> Path | None:
    """A file that comes with avsal; None where it does not."""
    paths = (PACKAGE / file, CHECKOUT / file)
    return next((path for path in paths if path.is_file()), None)


def locate(row: WeightsRow, revision: str | None = None) -> Found | None:
    """Find weights on this machine, without asking the Hub.

    Shipped weights come before imported and cached ones; a `revision` is one of the Hub's, so it
    is looked for in the cache only.
    """
    if revision is None:
        if path := shipped(row.file):
            return Found(path, "shipped")
        if (path := user_folder() / row.file).is_file():
            return Found(path, "imported")
    path = cached(row, revision)
    return Found(path, "cached") if path else None


def present() -> list[str]:
    """Names of the weights that are on this machine."""
    rows = [row.name for row in REGISTRY.values() if locate(row)]
    return [*rows, *other_imports()]


def other_imports() -> list[str]:
    """Names of imported weights that the registry does not know."""
    known = {row.file for row in REGISTRY.values()}
    files = sorted(user_folder().glob(f"*{SUFFIX}"))
    return [path.stem for path in files if path.name not in known]


def resolve(
    name_or_path: str | os.PathLike[str] | None = None,
    offline: bool = False,
    revision: str | None = None,
) -> Path:
    """Find weights by path or name: a file, then shipped, imported, cached and the Hub's weights.

    Args:
        name_or_path: a file, a name in the registry or of imported weights; None is the default.
        offline: never ask the Hub.
        revision: branch, tag or commit of the Hub repository.

    Raises:
        WeightsError: there is no such file, or the Hub does not give it.
        UsageError: no weights have that name.
    """
    text = os.fspath(name_or_path or DEFAULT)
    path = expanded(text)
    if path.is_file():
        return path
    if len(path.parts) > 1 or path.suffix in FILE_SUFFIXES:
        raise WeightsError(f"{text}: {'is a folder' if path.is_dir() else 'no such file'}")
    row = find_row(text)
    if row is None:
        return require_imported(text)
    found = locate(row, revision)
    if found and found.where != "cached":
        return found.path
    return pull(row, offline=offline, revision=revision)


def imported(name: str) -> Path | None:
    """Find weights that were imported under a name which the registry does not know."""
    path = user_folder() / f"{name}{SUFFIX}"
    return path if find_row(name) is None and path.is_file() else None


def require_imported(name: str) -> Path:
    """Like `imported`.

    Raises:
        WeightsError: the name is one that `avsal weights pull` gives, but it is not here.
        UsageError: no weights have that name.
    """
    if path := imported(name):
        return path
    if (match := FOLD.fullmatch(name)) and (row := find_row(match["name"])) and row.released:
        command = f"avsal weights pull {row.name} --fold {match['fold']}"
        raise WeightsError(f"{name}: not on this machine; run once: {command}")
    raise unknown(f"weights {name}: neither a file nor", name, [*REGISTRY, *other_imports()])


def shadowed() -> list[Path]:
    """Imported files under a name that means the weights that avsal ships, so never used."""
    files = [user_folder() / row.file for row in REGISTRY.values() if row.sha256]
    return [path for path in files if path.is_file()]


# --- the Hugging Face Hub ------------------------------------------------------------------------


def repo_of(row: WeightsRow) -> str:
    """The repository to ask: AVSAL_HUB_REPO where it is set, else the registry's."""
    return os.environ.get(REPO_VARIABLE) or row.repo


def published(row: WeightsRow) -> bool:
    """Whether the Hub is to be asked for weights.

    Where nobody has published under a name, whatever may appear there is not to be trusted.
    """
    return row.sha256 is not None or repo_of(row) != row.repo


def cached(row: WeightsRow, revision: str | None = None) -> Path | None:
    """Find a file in the Hub's cache, without asking the Hub."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        path = try_to_load_from_cache(repo_of(row), row.file, revision=revision or row.revision)
    except HFValidationError:
        return None
    return Path(path) if isinstance(path, str) else None


def pull(row: WeightsRow, *, offline: bool = False, revision: str | None = None) -> Path:
    """Download weights into the Hub's cache, or find them there.

    The file's sha256 is compared with the registry's (unless another revision is asked for) or, for
    files in the Hub's large-file storage, with the one that the Hub reports; a file that differs is
    removed from the cache.

    Raises:
        WeightsError: not there, no permission, no connection, or not the right content.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import logging as hub_logging

    repo = repo_of(row)
    if not published(row):
        raise WeightsError(
            f"{row.name}: not on this machine; run once: avsal weights pull {row.name}"
        )
    hub_logging.set_verbosity_error()  # what it would warn of is in the error, in one line
    if not offline and cached(row, revision) is None and (cause := unreachable(_endpoint())):
        raise WeightsError(
            f"{row.name}: {_endpoint()} cannot be reached ({cause}), and the weights are not in "
            "the cache; try again"
        )
    try:
        path = hf_hub_download(
            repo,
            row.file,
            revision=revision or row.revision,
            local_files_only=offline,
            library_name="avsal",
            library_version=__version__,
        )
    except Exception as error:
        raise _explain(error, row, repo, revision or row.revision) from error
    return _verified(Path(path), row.sha256 if revision is None else None, row.name)


def _endpoint() -> str:
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def unreachable(address: str, seconds: float = 6) -> str | None:
    """Why a server gives no answer at all within some seconds, in a few words; None if it does.

    The Hub's client itself tries again for half a minute. Where offline mode forbids to ask, this
    gives None, as the client says so better.
    """
    from huggingface_hub import get_session
    from huggingface_hub.errors import OfflineModeIsEnabled

    found: list[str | None] = []

    def ask() -> None:
        try:
            get_session().head(address, timeout=seconds, follow_redirects=False)
            found.append(None)
        except OfflineModeIsEnabled:
            found.append(None)
        except Exception as error:
            found.append(one_line(error))

    # In a thread, as looking up a server's name has no time limit of its own.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(seconds + 1)
    return found[0] if found else f"no answer in {seconds:g} s"


def _verified(path: Path, wanted: str | None, name: str) -> Path:
    """Compare a cached file with its sha256; the cache names large files by theirs."""
    blob = path.resolve()
    if wanted is None and SHA256.fullmatch(blob.name):
        wanted = blob.name
    if wanted and (found := sha256_of(path)) != wanted:
        path.unlink(missing_ok=True)
        blob.unlink(missing_ok=True)
        raise WeightsError(
            f"{name}: the sha256 of the download is {found[:12]}..., not {wanted[:12]}...; it was "
            f"removed, run avsal weights pull {name} to try again"
        )
    return path


def _explain(error: Exception, row: WeightsRow, repo: str, revision: str) -> AvsalError:
    """Say in one line what the Hub's client means and what helps."""
    from huggingface_hub import errors

    if isinstance(error, errors.HFValidationError):
        return UsageError(f"Hub repository {repo}: give it as owner/name")
    offline = (
        "is not in the Hub's cache, and offline the Hub is not asked; run avsal weights pull "
        f"{row.name} once, with a connection and without --offline"
    )
    release = f"; for the authors' release: avsal weights pull {row.name} --fold 1"
    elsewhere = release if row.released else ""
    permission = "needs permission: ask for it on the Hub's page, then hf auth login"
    meanings: tuple[tuple[type[Exception], str], ...] = (
        (errors.GatedRepoError, permission),
        (
            errors.RepositoryNotFoundError,
            f"does not exist on the Hub, or is private: check {REPO_VARIABLE}, or hf auth login"
            f"{elsewhere}",
        ),
        (errors.RevisionNotFoundError, f"has no revision {revision}; check --revision"),
        (
            errors.RemoteEntryNotFoundError,
            f"has no file {row.file} at revision {revision}{elsewhere}",
        ),
        (errors.LocalEntryNotFoundError, offline),
        (errors.OfflineModeIsEnabled, offline),
    )
    cause = error.__cause__
    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(cause, Exception):
        error = cause  # the client names what happened first only there
    meaning = next((text for kind, text in meanings if isinstance(error, kind)), None)
    if meaning is None and _status(error) in (401, 403):
        meaning = permission
    if meaning is None:
        meaning = f"cannot be downloaded ({one_line(error)}), and is not in the cache; try again"
    return WeightsError(f"{row.name}: {repo} {meaning}")


def _status(error: Exception) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def one_line(error: BaseException) -> str:
    """The first sentence of the client's message, which may be a page long."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.partition(". ")[0][:200]


def push(
    path: Path, repo: str, file: str, *, revision: str | None = None, create: bool = False
) -> str:
    """Upload weights that avsal wrote.

    Args:
        path: a safetensors file whose metadata names the variant.
        repo: Hub repository, owner/name.
        file: name in the repository.
        revision: branch; None is the main one.
        create: make the repository, private, where it does not exist.

    Returns:
        The web address of the commit.

    Raises:
        WeightsError: the file is not avsal's, or the Hub refuses.
    """
    if "variant" not in read_metadata(path):
        raise WeightsError(f"{path}: does not say which network it is for; avsal weights import it")
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    api = HfApi(library_name="avsal", library_version=__version__)
    try:
        if create:
            api.create_repo(repo, private=True, exist_ok=True)
        commit = api.upload_file(
            path_or_fileobj=path,
            path_in_repo=file,
            repo_id=repo,
            revision=revision,
            commit_message=f"Add {file}",
        )
    except HFValidationError:
        raise UsageError(f"Hub repository {repo}: give it as owner/name") from None
    except Exception as error:
        raise WeightsError(
            f"{repo}: upload failed ({one_line(error)}); check the name and that hf auth login "
            "was with a token that may write"
        ) from error
    return str(commit.commit_url)
