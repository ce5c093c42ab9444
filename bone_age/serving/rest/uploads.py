"""The form of a question: read to its end, held in memory and never on disk, and within limits all the way."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartParser
from starlette.requests import Request

from bone_age.serving.desk import BusyError
from bone_age.serving.rest.refusals import RefusedError
from bone_age.serving.rest.settings import MIB, ServeSettings

IMAGE, SEX, AGE = "image", "sex", "chronological_age_months"


@dataclass(frozen=True)
class Asked:
    """What the form holds; sex and age None where their fields are left out."""

    image: bytes
    sex: str | None
    chronological_age_months: float | None


class UploadRoom:
    """How many bytes of uploads are held at a time, all requests together."""

    def __init__(self, settings: ServeSettings) -> None:
        self._limit, self._held = settings.uploads_mib * MIB, 0

    @contextmanager
    def share(self) -> Iterator[Share]:
        """A request's part of it, given back at the end."""
        share = Share(self)
        try:
            yield share
        finally:
            self._held -= share.held

    def take(self, n_bytes: int) -> None:
        if self._held + n_bytes > self._limit:
            raise BusyError(retry_after_s=2)
        self._held += n_bytes


class Share:
    """What one request holds."""

    def __init__(self, room: UploadRoom) -> None:
        self._room, self.held = room, 0

    async def counted(self, stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        async for chunk in stream:
            self._room.take(len(chunk))
            self.held += len(chunk)
            yield chunk


class _InMemory(MultiPartParser):
    spool_max_size = 1 << 62  # a radiograph is never written to the disk


async def read_question(request: Request, share: Share) -> Asked:
    """Read a question from a multipart form.

    Raises:
        RefusedError: It is no form, or has not the right fields.
        MultiPartException: The form is broken.
        BusyError: There is no room for it now.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise RefusedError(415, "not_a_form", "the question is sent as multipart/form-data with the field 'image'")
    parser = _InMemory(request.headers, share.counted(request.stream()), max_files=2, max_fields=8, max_part_size=1024)
    return await _asked(await parser.parse())


async def _asked(form: FormData) -> Asked:
    names = [name for name, _ in form.multi_items()]
    for name in names:
        if name not in (IMAGE, SEX, AGE):
            raise _unusable(f"the form has a field '{name[:40]}'; known are {IMAGE}, {SEX} and {AGE}")
        if names.count(name) > 1:
            raise _unusable(f"the form has the field '{name}' {names.count(name)} times; one question, one image")
    image, sex, age = form.get(IMAGE), form.get(SEX), form.get(AGE)
    if not isinstance(image, UploadFile):
        raise _unusable("the form has no file 'image'")
    if isinstance(sex, UploadFile) or isinstance(age, UploadFile):
        raise _unusable(f"{SEX} and {AGE} are text, not files")
    content = await image.read()
    await image.close()
    return Asked(content, sex, None if age is None else _months(age))


def _months(text: str) -> float:
    try:
        if not text.isascii() or "_" in text:
            raise ValueError
        return float(text)
    except ValueError:
        raise _unusable(f"{AGE} is '{text[:40]}', expected a number of months") from None


def _unusable(detail: str) -> RefusedError:
    return RefusedError(422, "unusable_question", detail)
