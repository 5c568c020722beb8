"""Files as OpenAI's client hands them in and gets them back; what is refused leaves nothing behind."""

from collections.abc import AsyncIterator
from datetime import timedelta

import httpx2
import openai
import pytest

from headrace_billing.app import compose
from headrace_billing.batches.file import KEPT_TIME, PIECE_BYTES, UPLOAD_TIME
from headrace_billing.batches.file_store import begin
from headrace_billing.members.operations import OPERATIONS, Open
from headrace_billing.parts import Parts
from tests.billing.batches.conftest import BOUNDS
from tests.billing.batches.desk import Desk
from tests.billing.batches.lines import CHAT, jsonl, line
from tests.billing.seller import Seller

NOTHING = {"files": 0, "file_pieces": 0, "batches": 0, "batch_lines": 0}


async def test_a_file_comes_back_as_it_was_sent(desk: Desk) -> None:
    content = bytes(range(256)) * (PIECE_BYTES // 100)
    file = await desk.openai.files.create(file=("Ä b.jsonl", content), purpose="batch")
    assert (file.bytes, file.purpose, file.filename) == (len(content), "batch", "Ä b.jsonl")
    assert (await desk.openai.files.content(file.id)).content == content
    assert await desk.openai.files.retrieve(file.id) == file
    assert (await desk.rows())["file_pieces"] == len(content) // PIECE_BYTES + 1


async def test_files_are_listed_the_newest_first_page_by_page(desk: Desk) -> None:
    made = []
    for number in range(5):
        desk.clock.passes(seconds=1)
        made.append(await desk.upload(b"{}", f"{number}.jsonl"))
    listed = [file.id async for file in desk.openai.files.list(limit=2)]
    assert listed == made[::-1]
    assert [file.id async for file in desk.openai.files.list(limit=2, order="asc")] == made
    assert [file.id async for file in desk.openai.files.list(purpose="batch_output")] == []


async def test_a_file_that_is_deleted_is_gone_with_its_content(desk: Desk) -> None:
    file = await desk.upload(jsonl(line()))
    assert (await desk.openai.files.delete(file)).deleted
    for question in (desk.openai.files.retrieve, desk.openai.files.content, desk.openai.files.delete):
        with pytest.raises(openai.NotFoundError):
            await question(file)
    assert await desk.rows() == NOTHING


async def test_a_file_is_kept_for_a_month(desk: Desk) -> None:
    file = await desk.upload(jsonl(line()))
    desk.clock.now += KEPT_TIME - timedelta(seconds=1)
    await desk.batches.forget_files()
    await desk.openai.files.retrieve(file)
    desk.clock.passes(seconds=1)
    with pytest.raises(openai.NotFoundError):
        await desk.openai.files.retrieve(file)
    await desk.batches.forget_files()
    assert await desk.rows() == NOTHING


async def test_an_upload_whose_server_died_is_shown_to_nobody_and_removed(desk: Desk) -> None:
    async with desk.database.begin() as session:
        file = await begin(session, project=desk.customer.project, purpose="batch", at=desk.clock.now)
    assert (await desk.openai.files.list()).data == []
    with pytest.raises(openai.NotFoundError):
        await desk.openai.files.retrieve(file)
    await desk.batches.forget_files()
    assert (await desk.rows())["files"] == 1
    desk.clock.now += UPLOAD_TIME
    await desk.batches.forget_files()
    assert await desk.rows() == NOTHING


async def test_a_file_that_is_too_large_leaves_nothing(desk: Desk) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        await desk.upload(b"x" * (BOUNDS.file_bytes_max + 1))
    assert (refused.value.status_code, refused.value.code) == (413, "file_too_large")
    assert await desk.rows() == NOTHING


async def test_a_project_stores_no_more_than_it_may(desk: Desk) -> None:
    await desk.upload(b"x" * BOUNDS.file_bytes_max)
    with pytest.raises(openai.BadRequestError) as refused:
        await desk.upload(b"x" * BOUNDS.file_bytes_max)
    assert refused.value.code == "storage_full"
    assert (await desk.rows())["files"] == 1


async def test_other_purposes_and_unknown_parts_are_refused_and_leave_nothing(desk: Desk) -> None:
    with pytest.raises(openai.BadRequestError, match="purpose must be"):
        await desk.openai.files.create(file=("a", b"{}"), purpose="fine-tune")
    with pytest.raises(openai.BadRequestError, match="expires_after"):
        await desk.openai.files.create(
            file=("a", b"{}"),
            purpose="batch",
            expires_after={"anchor": "created_at", "seconds": 3600},
        )
    assert await desk.rows() == NOTHING


PART = b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n{}'


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", PART),
        ("multipart/form-data; boundary=b", b"no form at all"),
        ("multipart/form-data; boundary=b", PART),
        ("multipart/form-data; boundary=b", PART + b"\r\n" + PART + b"\r\n--b--\r\n"),
        ("multipart/form-data; boundary=b", b"--b--\r\n"),
        ("multipart/form-data; boundary=b", b"--b\r\nx-" + b"y" * 10_000 + b": z\r\n\r\n\r\n--b--\r\n"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\n' + b"x" * 2000 + b"\r\n--b--\r\n",
        ),
    ],
)
async def test_what_is_no_upload_is_refused_and_leaves_nothing(
    desk: Desk, http: httpx2.AsyncClient, content_type: str, body: bytes
) -> None:
    answer = await http.post(
        "/v1/files",
        content=body,
        headers={"authorization": f"Bearer {desk.customer.secret}", "content-type": content_type},
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
    assert await desk.rows() == NOTHING


async def test_a_client_that_goes_in_the_middle_leaves_nothing(desk: Desk, http: httpx2.AsyncClient) -> None:
    async def half() -> AsyncIterator[bytes]:
        yield PART + b"x" * PIECE_BYTES * 2
        raise ConnectionError

    headers = {
        "authorization": f"Bearer {desk.customer.secret}",
        "content-type": "multipart/form-data; boundary=b",
    }
    with pytest.raises(ConnectionError):
        await http.post("/v1/files", content=half(), headers=headers)
    assert await desk.rows() == NOTHING


async def test_files_and_batches_of_another_project_are_not_there(desk: Desk) -> None:
    file = await desk.upload(jsonl(line()))
    batch = await desk.make(file)
    other = await desk.seller.customer()
    stranger = desk.openai.with_options(api_key=other.secret)
    asked = (
        stranger.files.retrieve(file),
        stranger.files.content(file),
        stranger.files.delete(file),
        stranger.batches.retrieve(batch.id),
        stranger.batches.cancel(batch.id),
        stranger.batches.create(input_file_id=file, endpoint="/v1/chat/completions", completion_window="24h"),
    )
    for question in asked:
        with pytest.raises(openai.NotFoundError):
            await question
    assert (await stranger.files.list()).data == []
    assert (await stranger.batches.list()).data == []


async def test_a_key_that_may_ask_no_model_has_no_files(desk: Desk) -> None:
    body = {"project": desk.customer.project, "name": "looks", "scopes": ["usage:read"]}
    secret = (await desk.seller.post("/v1/keys", body))["secret"]
    with pytest.raises(openai.PermissionDeniedError) as refused:
        await desk.openai.with_options(api_key=secret).files.list()
    assert refused.value.code == "scope_missing"


TO_KEYS = sorted(name for name, line in OPERATIONS.items() if line is Open.TO_KEYS)


@pytest.mark.parametrize("operation", TO_KEYS)
async def test_what_is_open_to_keys_is_open_to_nobody_else(
    seller: Seller, parts: Parts, http: httpx2.AsyncClient, operation: str
) -> None:
    document = compose(parts).openapi()
    ((method, path),) = [
        (method, path)
        for path, methods in document["paths"].items()
        for method, each in methods.items()
        if each["operationId"] == operation
    ]
    path = path.replace("{file_id}", "file_1").replace("{batch_id}", "batch_1")
    for token, refusal in (("hr-" + "a" * 43, "unauthenticated"), (seller.token, "forbidden")):
        body = {"input_file_id": "file_1", "endpoint": CHAT, "completion_window": "24h"}
        answer = await http.request(method, path, json=body, headers={"authorization": f"Bearer {token}"})
        assert answer.json()["code"] == answer.json()["error"]["code"] == refusal
