"""Finding weights: shipped with avsal, imported, in the Hub's cache, or on the Hugging Face Hub.

This module does not import torch. It imports huggingface_hub only when needed, because that is slow
and because the client reads its settings (HF_HOME, HF_ENDPOINT, HF_HUB_OFFLINE, HF_TOKEN, ...) when
it is imported.
"""

from __future__ import annotations

import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path

from avsal.errors import AvsalError, UsageError, WeightsError, exists
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

PACKAGE = Path(__file__).parent  # where a wheel keeps the shipped weights
CHECKOUT = PACKAGE.parents[1] / "weights"  # where a checkout of the repository keeps them
GRAPHS = "avsal-small.graphs.zip"  # the default network for ONNX Runtime, without weights
SHA256 = re.compile(r"[0-9a-f]{64}")
REPO_VARIABLE = "AVSAL_HUB_REPO"


@dataclass(frozen=True)
class Found:
    """Weights on this machine; `where` is "shipped", "imported" or "cached"."""

    path: Path
    where: str


def user_folder() -> Path:
    """Return the folder of imported weights: AVSAL_HOME/weights, else in the XDG data folder."""
    if home := os.environ.get("AVSAL_HOME"):
        return expanded(home) / "weights"
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return expanded(data) / "avsal" / "weights"


def expanded(text: str) -> Path:
    """Replace a leading ~ by the home folder, or by / for users without one, as in containers."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path("/", *Path(text).parts[1:])


def hub_cache() -> Path:
    """Return the folder in which huggingface_hub keeps downloads."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def shipped(file: str) -> Path | None:
    """Find a file that is shipped with avsal."""
    paths = (PACKAGE / file, CHECKOUT / file)
    return next((path for path in paths if path.is_file()), None)


def locate(row: WeightsRow, revision: str | None = None) -> Found | None:
    """Find weights on this machine, without a request to the Hub.

    Shipped weights take precedence over imported ones, and those over cached ones. Only the cache
    can contain a certain `revision`.
    """
    if revision is None:
        if path := shipped(row.file):
            return Found(path, "shipped")
        if exists(path := user_folder() / row.file):
            return Found(path, "imported")
    path = cached(row, revision)
    return Found(path, "cached") if path else None


def present() -> list[str]:
    """List the names of the weights on this machine."""
    rows = [row.name for row in REGISTRY.values() if locate(row)]
    return [*rows, *other_imports()]


def other_imports() -> list[str]:
    """List the names of imported weights that are not in the registry."""
    known = {row.file for row in REGISTRY.values()}
    folder = user_folder()
    files = sorted(folder.glob(f"*{SUFFIX}")) if exists(folder) else []
    return [path.stem for path in files if path.name not in known]


def resolve(
    name_or_path: str | os.PathLike[str] | None = None,
    offline: bool = False,
    revision: str | None = None,
) -> Path:
    """Find weights: a file, else shipped, imported or cached weights, else those on the Hub.

    Args:
        name_or_path: a file, a name in the registry, or the name of imported weights; None means
            the default weights.
        offline: never download.
        revision: branch, tag or commit of the Hub repository.

    Raises:
        WeightsError: there is no such file, or it cannot be downloaded.
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
    """Find weights that were imported under a name that is not in the registry."""
    path = user_folder() / f"{name}{SUFFIX}"
    return path if find_row(name) is None and exists(path) else None


def require_imported(name: str) -> Path:
    """Like `imported`.

    Raises:
        WeightsError: `avsal weights pull` would give that name, but the file is not here.
        UsageError: no weights have that name.
    """
    if path := imported(name):
        return path
    if (match := FOLD.fullmatch(name)) and (row := find_row(match["name"])) and row.released:
        command = f"avsal weights pull {row.name} --fold {match['fold']}"
        raise WeightsError(f"{name}: not on this machine; run once: {command}")
    raise unknown(f"weights {name}: neither a file nor", name, [*REGISTRY, *other_imports()])


def shadowed() -> list[Path]:
    """List imported files that are never used, because their names mean the shipped weights."""
    files = [user_folder() / row.file for row in REGISTRY.values() if row.sha256]
    return [path for path in files if exists(path)]


# --- the Hugging Face Hub ------------------------------------------------------------------------


def repo_of(row: WeightsRow) -> str:
    """Return the Hub repository: AVSAL_HUB_REPO if set, else the registry's."""
    return os.environ.get(REPO_VARIABLE) or row.repo


def published(row: WeightsRow) -> bool:
    """Tell whether weights may be downloaded from the Hub.

    While nothing is published under a name, a file that appears there is not trusted.
    """
    return row.sha256 is not None or repo_of(row) != row.repo


def cached(row: WeightsRow, revision: str | None = None) -> Path | None:
    """Find a file in the Hub's cache, without a request to the Hub."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        path = try_to_load_from_cache(repo_of(row), row.file, revision=revision or row.revision)
    except HFValidationError:
        return None
    return Path(path) if isinstance(path, str) else None


def pull(row: WeightsRow, *, offline: bool = False, revision: str | None = None) -> Path:
    """Download weights into the Hub's cache, or find them there.

    The sha256 must be the registry's, unless `revision` is given. For other files in the Hub's
    large-file storage it must be the one that the Hub reports. A file that differs is removed.

    Raises:
        WeightsError: no such file, no permission, no connection, or wrong content.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import logging as hub_logging

    repo = repo_of(row)
    if not published(row):
        raise WeightsError(
            f"{row.name}: not on this machine; run once: avsal weights pull {row.name}"
        )
    hub_logging.set_verbosity_error()  # the error below says the same in one line
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
    """Return in a few words why a server does not answer within some seconds; None if it does.

    The Hub's client itself would retry for half a minute. In its offline mode this returns None,
    because the client's own error is better.
    """
    from huggingface_hub import get_session
    from huggingface_hub.errors import OfflineModeIsEnabled

    causes: list[str | None] = []

    def request() -> None:
        try:
            get_session().head(address, timeout=seconds, follow_redirects=False)
            causes.append(None)
        except OfflineModeIsEnabled:
            causes.append(None)
        except Exception as error:
            causes.append(one_line(error))

    # The request runs in a thread, because a DNS lookup has no time limit of its own.
    thread = threading.Thread(target=request, daemon=True)
    thread.start()
    thread.join(seconds + 1)
    return causes[0] if causes else f"no answer within {seconds:g} s"


def _verified(path: Path, expected: str | None, name: str) -> Path:
    """Check the sha256 of a cached file; the cache names large files by theirs."""
    blob = path.resolve()
    if expected is None and SHA256.fullmatch(blob.name):
        expected = blob.name
    if expected and (digest := sha256_of(path)) != expected:
        path.unlink(missing_ok=True)
        blob.unlink(missing_ok=True)
        raise WeightsError(
            f"{name}: the sha256 of the download is {digest[:12]}..., not {expected[:12]}...; it "
            f"was removed, run avsal weights pull {name} to try again"
        )
    return path


def _explain(error: Exception, row: WeightsRow, repo: str, revision: str) -> AvsalError:
    """Turn an error of the Hub's client into one line with a remedy."""
    from huggingface_hub import errors

    if isinstance(error, errors.HFValidationError):
        return UsageError(f"Hub repository {repo}: give it as owner/name")
    offline = (
        "is not in the Hub's cache and cannot be downloaded offline; run avsal weights pull "
        f"{row.name} once while connected, without --offline"
    )
    release = f"; for the authors' release: avsal weights pull {row.name} --fold 1"
    elsewhere = release if row.released else ""
    permission = "needs permission: request access on its Hub page, then run hf auth login"
    meanings: tuple[tuple[type[Exception], str], ...] = (
        (errors.GatedRepoError, permission),
        (
            errors.RepositoryNotFoundError,
            f"does not exist on the Hub, or is private: check {REPO_VARIABLE}, or run hf auth login"
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
        error = cause  # only the cause says what went wrong first
    meaning = next((text for kind, text in meanings if isinstance(error, kind)), None)
    status = getattr(getattr(error, "response", None), "status_code", None)
    if meaning is None and status in (401, 403):
        meaning = permission
    if meaning is None:
        meaning = f"cannot be downloaded ({one_line(error)}), and is not in the cache; try again"
    return WeightsError(f"{row.name}: {repo} {meaning}")


def one_line(error: BaseException) -> str:
    """Return the first sentence of an error's message, which may be a page long."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.partition(". ")[0][:200]


def push(
    path: Path, repo: str, file: str, *, revision: str | None = None, create: bool = False
) -> str:
    """Upload weights that avsal wrote, and return the web address of the commit.

    Args:
        path: a safetensors file whose metadata names the variant.
        repo: Hub repository, owner/name.
        file: name in the repository.
        revision: branch; None means the main branch.
        create: create the repository, as a private one, if it does not exist.

    Raises:
        WeightsError: avsal did not write the file, or the Hub refuses it.
    """
    if "variant" not in read_metadata(path):
        raise WeightsError(f"{path}: does not name its network; use avsal weights import first")
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
            f"{repo}: upload failed ({one_line(error)}); check the name, and run hf auth login "
            "with a token that may write"
        ) from error
    return str(commit.commit_url)
