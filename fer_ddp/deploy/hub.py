"""Exported folders on the Hugging Face Hub. Needs the extra ``hub``.

Of a repository only numbers are loaded (`exported.load_without_code`): `export.MODEL`, a program, is neither sent nor
fetched.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from fer_ddp.deploy.export import CARD, LABELS, MODEL, README
from fer_ddp.deploy.onnx import ONNX
from fer_ddp.errors import JobError, RunError
from fer_ddp.runs.weights import EXPORTED_CONFIG, EXPORTED_WEIGHTS

PREFIX = "hf:"
"""Precedes the name of a repository where a folder may be given as well."""
_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_FETCHED = (EXPORTED_WEIGHTS, EXPORTED_CONFIG, LABELS, CARD, ONNX)
_SECONDS = 10.0
"""To wait for the server's answer."""


def repository(path: Path) -> str | None:
    """``USER/NAME`` of ``hf:USER/NAME``; None for a folder. Raises JobError for a name that none can have."""
    text = str(path)
    if not text.startswith(PREFIX):
        return None
    return _checked(text.removeprefix(PREFIX))


def fetch(name: str) -> Path:
    """The folder of the repository ``name``, as it is now, or as it was fetched last if the server can't be reached.

    Raises JobError without the extra, RunError if there is no such repository or it can't be fetched.
    """
    hub = _hub()
    with _failures(name):
        return Path(
            hub.snapshot_download(
                name, allow_patterns=list(_FETCHED), etag_timeout=_SECONDS, endpoint=os.environ.get("HF_ENDPOINT")
            )
        )


def push(folder: Path, name: str, *, private: bool = False) -> str:
    """Send what `export` wrote into ``folder``, but `MODEL`, to the repository ``name``, which is made if it is new.

    Returns its address. Raises JobError if ``folder`` is not an exported one, or without the extra; RunError if it
    can't be sent, such as without ``hf auth login``.
    """
    if not (folder / CARD).is_file() or not (folder / EXPORTED_WEIGHTS).is_file():
        raise JobError(f"{folder}: is not an exported folder; make one: fer-ddp export RUN --out DIR")
    hub = _hub()
    card = (folder / README).read_text(encoding="utf-8")
    text = "".join(line for line in card.splitlines(keepends=True) if not line.startswith(f"| `{MODEL}` |"))
    operations = [hub.CommitOperationAdd(README, text.encode())]
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name not in (MODEL, README) and not path.name.startswith("."):
            operations.append(hub.CommitOperationAdd(path.name, str(path)))
    with _failures(_checked(name)):
        api = hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
        url = api.create_repo(name, private=private or None, exist_ok=True)
        api.create_commit(name, operations, commit_message="Model exported by fer-ddp")
    return str(url)


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise JobError(f"{name}: is not the name of a repository; give USER/NAME, such as ada/faces")
    return name


def _hub() -> ModuleType:
    try:
        import huggingface_hub
    except ImportError:
        raise JobError("the Hub needs huggingface_hub; pip install 'fer-ddp[hub]'") from None
    return huggingface_hub


@contextmanager
def _failures(name: str) -> Iterator[None]:
    """Raises RunError for what the library raises."""
    from huggingface_hub import errors

    try:
        yield
    except errors.RepositoryNotFoundError:
        raise RunError(
            f"{PREFIX}{name}: there is no such repository, or it is private and this machine is not logged in; "
            "`hf auth login` logs in"
        ) from None
    except errors.LocalEntryNotFoundError:
        raise RunError(
            f"{PREFIX}{name}: the server can't be reached, and the repository was not fetched before; fetch it on a "
            "machine with a network, or copy an exported folder here"
        ) from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        hint = "; `hf auth login` logs in" if status in (401, 403) else ""
        raise RunError(f"{PREFIX}{name}: the server refused ({status} {error.response.reason_phrase}){hint}") from None
    except errors.HFValidationError:  # of the library's own rules, such as no --
        raise JobError(f"{name}: is not the name of a repository; give USER/NAME, such as ada/faces") from None
    except (OSError, ValueError, _network_error()) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise RunError(f"{PREFIX}{name}: the server can't be reached ({reason})") from None


def _network_error() -> type[Exception]:
    """The base class of what the HTTP client raises: httpx, which later versions of the library call httpx2."""
    from huggingface_hub.errors import HfHubHTTPError

    bases = [base for base in HfHubHTTPError.__mro__ if base.__module__.startswith("httpx")]
    return bases[-1] if bases else OSError
