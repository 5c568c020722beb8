"""Recordings for tests: real WAV files, and beginnings of other formats."""

import io
import wave

MP3 = b"\xff\xfb\x90\x64" + bytes(413)
"""One frame of MPEG-1, layer III, at 128 kbit/s."""


def wav(seconds: float = 1.0, *, rate: int = 16_000, channels: int = 1, sample_bytes: int = 2) -> bytes:
    """Silence."""
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setframerate(rate)
        written.setnchannels(channels)
        written.setsampwidth(sample_bytes)
        written.writeframes(bytes(round(seconds * rate) * channels * sample_bytes))
    return file.getvalue()
