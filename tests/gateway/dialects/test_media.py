"""Images and audio in messages are found however they are written, and no address but an allowed one is let through."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_gateway.dialects.media import NO_MEDIA, Media, check_media, read_media
from headrace_gateway.errors import InvalidRequest, NotOffered
from tests.gateway.account import DEPLOYMENT

HOSTS = frozenset(("images.example.com",))
SEES = msgspec.structs.replace(DEPLOYMENT, image_tokens_max=50)
GOOD, EVIL = "https://images.example.com/cat.png", "http://169.254.169.254/"
PNG = "data:image/png;base64,AAAA"


def images_of(messages: str) -> Media:
    return read_media({"messages": msgspec.Raw(messages.encode())})


def admitted(content: str) -> Media:
    images = images_of(f'[{{"role": "user", "content": [{content}]}}]')
    check_media(images, SEES, hosts=HOSTS)
    return images


@pytest.mark.parametrize(
    "url",
    [
        "http://images.example.com/cat.png",
        "https://example.com/cat.png",
        "https://user@images.example.com/",
        "https://images.example.com:8443/",
        "https://images.example.com\\@evil.example/",
        "https://evil.example\\@images.example.com/",
        "https://images.example.com@evil.example/",
        "https://images.example.com.evil.example/",
        "https://images.example.com\t.evil.example/",
        "https://\u0131mages.example.com/",
        "https://[::1]/",
        "https://images.example.com:x/",
        "file:///etc/passwd",
        "data:text/html;base64,AAAA",
        "DATA:image/png;base64,AAAA",
        "//images.example.com/cat.png",
        "cat.png",
    ],
)
def test_an_address_is_fetched_from_an_allowed_host_by_https_or_not_at_all(url: str) -> None:
    with pytest.raises(InvalidRequest):
        admitted(json.dumps({"type": "image_url", "image_url": {"url": url}}))


@pytest.mark.parametrize(
    "part",
    [
        '{"type": "image_url", "image_url": {"url": "EVIL"}}',
        '{"type": "image_url", "image_url": "EVIL"}',
        '{"image_url": "EVIL"}',
        '{"type": "input_image", "image_url": "EVIL"}',
        r'{"type": "\u0069mage_url", "image\u005furl": {"url": "EVIL"}}',
        r'{"type": "im\u0061ge_ur\u006C", "im\u0061ge_ur\u006C": {"url": "EVIL"}}',
        '{"type": "image_url", "image_url": {"url": "GOOD"}, "image_url": {"url": "EVIL"}}',
        '{"type": "image_url", "image_url": {"url": "GOOD", "url": "EVIL"}}',
        '{"type": "video_url", "video_url": {"url": "EVIL"}}',
        '{"type": "audio_url", "audio_url": {"url": "EVIL"}}',
        '{"video_url": "EVIL", "uuid": "x"}',
        '{"type": ["image_url"], "image_url": {"url": "EVIL"}}',
        '{"type": "tool_result", "content": [{"type": "image", "source": {"type": "url", "url": "EVIL"}}]}',
        '{"type": "image", "source": {"type": "url", "url": "EVIL"}}',
        # What the engine would look up among what others have sent.
        '{"type": "image_url", "image_url": {"url": "GOOD"}, "uuid": "another"}',
        '{"type": "image_url", "image_url": null, "uuid": "another"}',
        # What is no image at all.
        '{"type": 1, "image_url": {"url": 1}}',
        '{"type": "image", "source": {"data": "x"}}',
        '{"type": "image", "source": "GOOD"}',
    ],
)
def test_an_address_can_t_be_hidden(part: str) -> None:
    with pytest.raises(InvalidRequest):
        admitted(part.replace("EVIL", EVIL).replace("GOOD", GOOD))


@pytest.mark.parametrize("kind", ["image_embeds", "audio_embeds", "video_embeds", "prompt_embeds"])
def test_no_embedding_of_media_reaches_an_engine(kind: str) -> None:
    with pytest.raises(NotOffered, match="only images and audio"):
        admitted(json.dumps({"type": kind, kind: "AAAA"}))


def test_the_last_of_two_contents_counts() -> None:
    evil = json.dumps([{"type": "image_url", "image_url": {"url": EVIL}}])
    images = images_of(f'[{{"role": "user", "content": "hello", "content": {evil}}}]')
    assert images.addresses == (EVIL,)


def test_images_are_counted_and_their_bytes_told_from_text() -> None:
    parts = [
        {"type": "image_url", "image_url": {"url": PNG}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
        {"type": "image_url", "image_url": {"url": GOOD}},
        {"type": "text", "text": PNG},
    ]
    images = admitted(", ".join(map(json.dumps, parts)))
    assert images == Media(images=3, inline_bytes=2 * len("png;base64,AAAA"), addresses=(GOOD,))


def test_a_model_without_eyes_says_so() -> None:
    with pytest.raises(NotOffered, match="text alone"):
        check_media(Media(images=1), DEPLOYMENT, hosts=HOSTS)


@given(st.lists(st.text() | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": st.text()}))))
def test_text_is_no_image_whatever_it_says(contents: list[Any]) -> None:
    messages = [{"role": "user", "content": content} for content in contents]
    for ascii_alone in (True, False):
        raw = json.dumps(messages, ensure_ascii=ascii_alone).encode("utf-8", "surrogatepass")
        assert read_media({"messages": msgspec.Raw(raw)}) == NO_MEDIA


@given(st.data())
def test_however_the_letters_are_escaped_an_image_is_found(data: st.DataObject) -> None:
    def escaped(word: str) -> str:
        return "".join(f"\\u{ord(c):04x}" if data.draw(st.booleans()) else c for c in word)

    part = f'{{"{escaped("type")}": "{escaped("image_url")}", "{escaped("image_url")}": {{"url": "{PNG}"}}}}'
    assert admitted(part).images == 1
