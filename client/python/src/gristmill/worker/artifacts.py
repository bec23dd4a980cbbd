"""Artifacts: immutable bytes named by their digest, in a folder or in an S3 bucket.

The layouts are those of Gristmill's own stores: `sha256/ab/cdef…` in a folder, `<prefix>/sha256/ab/abcdef…` in a bucket.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import uuid
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from gristmill.errors import (
    ArtifactCorruptError,
    ArtifactMissingError,
    BadInputError,
    OutOfDiskError,
    UnavailableError,
    missing_extra,
)

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
NO_SPACE = 28
"""`errno` of a full disk."""


class Artifacts(Protocol):
    """A store of artifacts."""

    def put(self, data: bytes) -> str:
        """Keeps bytes; returns their digest."""

    def get(self, digest: str) -> bytes:
        """The bytes of a digest, checked against it."""

    def mark(self, name: str) -> None:
        """Sets a mark: a name under which something is found again."""


def digest_of(data: bytes) -> str:
    """The digest of bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def open_artifacts(url: str) -> Artifacts:
    """The store at `s3://bucket/prefix`, `file:///folder` or a folder's path."""
    if url.startswith("s3://"):
        return BucketArtifacts(url)
    return FolderArtifacts(Path(url.removeprefix("file://")))


def _hex(digest: str) -> str:
    if not DIGEST.fullmatch(digest):
        raise BadInputError(f"`{digest}` is not a digest (`sha256:` and 64 hexadecimal digits)")
    return digest.removeprefix("sha256:")


def _checked(digest: str, data: bytes) -> bytes:
    found = digest_of(data)
    if found != digest:
        raise ArtifactCorruptError(f"the artifact `{digest}` is damaged: its bytes have the digest `{found}`")
    return data


def _missing(digest: str) -> ArtifactMissingError:
    return ArtifactMissingError(f"the artifact `{digest}` isn't in the store")


class FolderArtifacts:
    """Artifacts in a folder, written aside, synced and renamed into place."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def put(self, data: bytes) -> str:
        """Keeps bytes. When it returns, they survive a power cut."""
        digest = digest_of(data)
        path = self._path(digest)
        try:
            if path.exists() and path.stat().st_size == len(data):
                self._sync(path.parent)
                return digest
            self._write(path, data)
        except OSError as error:
            kind = OutOfDiskError if error.errno == NO_SPACE else UnavailableError
            raise kind(f"failed to write the artifact `{path}`: {error.strerror}") from error
        return digest

    def _write(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not under `tmp/`, where folders of others are removed as soon as nobody holds their locks.
        aside = path.parent / f".put-{uuid.uuid4().hex}"
        try:
            with aside.open("xb") as file:
                file.write(data)
                file.flush()
                os.fchmod(file.fileno(), 0o444)
                os.fsync(file.fileno())
            aside.rename(path)
        finally:
            aside.unlink(missing_ok=True)
        self._sync(path.parent)

    def get(self, digest: str) -> bytes:
        """The bytes of a digest."""
        try:
            return _checked(digest, self._path(digest).read_bytes())
        except FileNotFoundError as error:
            raise _missing(digest) from error
        except OSError as error:
            raise UnavailableError(f"failed to read the artifact `{digest}`: {error.strerror}") from error

    def mark(self, name: str) -> None:
        """Sets a mark: an empty file under `marks/`."""
        path = self.root / "marks" / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        except OSError as error:
            raise UnavailableError(f"failed to set the mark `{name}`: {error.strerror}") from error

    def _path(self, digest: str) -> Path:
        name = _hex(digest)
        return self.root / "sha256" / name[:2] / name[2:]

    @staticmethod
    def _sync(folder: Path) -> None:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class BucketArtifacts:
    """Artifacts in an S3 bucket. Credentials, region and `AWS_ENDPOINT_URL` are taken from the environment as usual."""

    def __init__(self, url: str) -> None:
        try:
            import boto3
            from botocore.config import Config
        except ImportError as error:
            raise missing_extra("boto3", "s3") from error
        place = urlsplit(url)
        prefix = place.path.strip("/")
        self.bucket, self.prefix = place.netloc, f"{prefix}/" if prefix else ""
        # Bytes are checked against their digests; checksums in trailers add nothing, and many servers don't know them.
        settings: dict[str, Any] = {
            "connect_timeout": 5,
            "read_timeout": 60,
            "retries": {"max_attempts": 5, "mode": "standard"},
            "s3": {"addressing_style": "path"} if os.environ.get("AWS_ENDPOINT_URL") else None,
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        }
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        self.client: Any = boto3.client("s3", config=Config(**settings), region_name=region)

    def put(self, data: bytes) -> str:
        """Keeps bytes."""
        digest = digest_of(data)
        with self._reached("write", digest):
            self.client.put_object(Bucket=self.bucket, Key=self._key(digest), Body=data)
        return digest

    def get(self, digest: str) -> bytes:
        """The bytes of a digest."""
        with self._reached("read", digest):
            data: bytes = self.client.get_object(Bucket=self.bucket, Key=self._key(digest))["Body"].read()
        return _checked(digest, data)

    def mark(self, name: str) -> None:
        """Sets a mark: an object of no bytes under `marks/`."""
        with self._reached("mark", name):
            self.client.put_object(Bucket=self.bucket, Key=f"{self.prefix}marks/{name}", Body=b"")

    def _key(self, digest: str) -> str:
        name = _hex(digest)
        return f"{self.prefix}sha256/{name[:2]}/{name}"

    @contextlib.contextmanager
    def _reached(self, verb: str, digest: str) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in ("NoSuchKey", "404"):
                raise _missing(digest) from error
            raise UnavailableError(f"failed to {verb} the artifact `{digest}`: {error}") from error
        except BotoCoreError as error:
            raise UnavailableError(f"failed to {verb} the artifact `{digest}`: {error}") from error
