"""Frames of a video file or a camera, by OpenCV. Needs the extra ``video``."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from PIL import Image

from fer_ddp.deploy.pictures import Picture
from fer_ddp.errors import RunError

EXTENSIONS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv")


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera of this machine, and how many frames of it to take."""

    number: int
    frames: int

    def __str__(self) -> str:
        return f"camera {self.number}"


def is_video(source: Path | Camera) -> bool:
    """Whether it is a camera, or a file whose name ends as a video's does."""
    return isinstance(source, Camera) or source.suffix.lower() in EXTENSIONS


def video_frames(source: Path | Camera, every: int) -> Iterator[Picture]:
    """Every ``every``-th frame of a file or a camera, one at a time in memory.

    Raises RunError if there is none, or OpenCV is not installed.
    """
    name = str(source)
    if isinstance(source, Path) and not source.is_file():
        raise RunError(f"{name}: there is no such file")
    most = source.frames if isinstance(source, Camera) else None
    cv2 = _opencv(name)
    # Other backends than FFmpeg would take a damaged file for images.
    opened = (source.number,) if isinstance(source, Camera) else (name, cv2.CAP_FFMPEG)
    capture = cv2.VideoCapture(*opened)
    count = 0
    try:
        while (most is None or count < most) and capture.grab():
            seconds = max(0.0, capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
            read, frame = capture.retrieve()
            if read:
                image = Image.fromarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
                yield Picture(name=name, image=image, seconds=seconds)
                count += 1
            for _ in range(every - 1):
                capture.grab()
    finally:
        capture.release()
    if not count:
        what = (
            "is not there, or gives no frames"
            if isinstance(source, Camera)
            else "is a video without frames that OpenCV can read"
        )
        raise RunError(f"{name}: {what}")


def _opencv(name: str) -> ModuleType:
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # a RunError tells what is wrong
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    try:
        import cv2
    except ImportError:
        raise RunError(
            f"{name}: frames are read by OpenCV, which is not installed; pip install 'fer-ddp[video]', or save the "
            "frames as PNG or JPEG"
        ) from None
    return cv2
