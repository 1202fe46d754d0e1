# Copyright 2026 The segnet_ros authors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""
Report on a drive: video, contact sheet and summary of frames and their masks.

Knows arrays and numbers, nothing of ROS.
"""

import json
from pathlib import Path

import cv2
import numpy as np

from segnet_ros.frames import encode_image
from segnet_ros.labels import LabelSet, VOID
from segnet_ros.legend import draw_legend
from segnet_ros.metrics import confusion_matrix, scores
from segnet_ros.video import Timeline, VideoWriter
from segnet_ros.whole_file import write_whole

VIDEO, SHEET, SUMMARY = FILES = ('video.mp4', 'contact_sheet.png', 'summary.json')
SHEET_FRAMES = 12
SHEET_COLUMNS = 4
CELL_WIDTH = 320


class DriveReport:
    """
    Collects frames one by one, then writes the report; use it in a `with` block.

    Only the contact sheet's frames stay in memory. Files in the folder: video.mp4 (input above,
    segmentation below), contact_sheet.png, summary.json. Those of an earlier report are removed
    first. If the block ends with an error, the video so far is finished and kept.

    :param fps: approximate frames per second of the source; the video follows the stamps.
    :param speed: playback speed of the source and the video, relative to the stamps.
    """

    def __init__(self, folder: Path, fps: float, label_set: LabelSet, speed: float = 1.0):
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._label_set = folder, label_set
        self._video = VideoWriter(folder / VIDEO, fps * speed)
        self._timeline = Timeline(fps)
        for name in FILES:
            (folder / name).unlink(missing_ok=True)
        self._video_shape: tuple[int, ...] | None = None
        self._cells: list[np.ndarray] = []
        self._stride = 1
        self.frames = 0
        self._latencies: list[float] = []
        self._fractions = np.zeros(len(label_set))
        self._confusion = np.zeros((len(label_set), len(label_set)), np.int64)

    def __enter__(self) -> 'DriveReport':
        """Return the report itself."""
        return self

    def __exit__(self, *error):
        """Close the video."""
        self._video.close()

    def add(self, image: np.ndarray, label_map: np.ndarray, color_mask: np.ndarray,
            latency: float, truth: np.ndarray | None, stamp_ns: int):
        """
        Add one frame; if its size differs from the first one's, only the video leaves it out.

        :param image, color_mask: (H, W, 3) uint8 RGB.
        :param label_map, truth: (H, W) uint8 class ids, VOID for none; truth None if unknown.
        :param latency: seconds from the image's arrival to the mask's.
        :param stamp_ns: when the image was taken.
        :raises ValueError: if truth and mask differ in size.
        """
        if truth is not None and truth.shape != label_map.shape:
            raise ValueError(f'the true masks are {truth.shape[1]}x{truth.shape[0]}, the images '
                             f'{label_map.shape[1]}x{label_map.shape[0]}: scale one of them, or '
                             "rename the folder that ends in 'annot'")
        self._video_shape = self._video_shape or image.shape
        if image.shape == self._video_shape:
            self._video.write(np.vstack((image, color_mask)), self._timeline.place(stamp_ns))
        if self.frames % self._stride == 0:
            self._cells.append(_cell(image, color_mask))
            if len(self._cells) > 2 * SHEET_FRAMES:
                # However long the drive, keep a few frames evenly spread over it.
                self._cells = self._cells[::2]
                self._stride *= 2
        self.frames += 1
        self._latencies.append(latency)
        counts = np.bincount(label_map.ravel(), minlength=VOID + 1)[:len(self._label_set)]
        self._fractions += counts / label_map.size
        if truth is not None:
            self._confusion += confusion_matrix(truth, label_map, len(self._label_set))

    def finish(self, measured: dict) -> dict:
        """
        Write the files and return the summary; values that are unknown without a frame are None.

        :param measured: values measured elsewhere, copied into the summary.
        """
        self._video.close()
        self._write_contact_sheet()
        names = self._label_set.class_names
        result = scores(self._confusion) if self._confusion.any() else None
        summary = {
            **measured,
            'frames_not_in_video': self.frames - self._video.count,
            'latency_ms': {f'p{q}': round(1e3 * float(np.percentile(self._latencies, q)), 2)
                           if self._latencies else None for q in (50, 95)},
            'miou': result and round(result['miou'], 4),
            'per_class_iou': result and {
                name: None if np.isnan(iou) else round(iou, 4)
                for name, iou in zip(names, result['per_class_iou'], strict=True)},
            'class_fractions': {
                name: round(float(total / max(1, self.frames)), 6)
                for name, total in zip(names, self._fractions, strict=True)},
        }
        text = json.dumps(summary, indent=2, allow_nan=False) + '\n'
        write_whole(self._folder / SUMMARY, text.encode())
        return summary

    def _write_contact_sheet(self):
        if not self._cells:
            return
        chosen = np.linspace(0, len(self._cells) - 1, min(SHEET_FRAMES, len(self._cells)))
        cells = [self._cells[int(round(i))] for i in chosen]
        height = max(map(len, cells))
        padded = [_taller(cell, height) for cell in cells]
        padded += [np.full_like(padded[0], 255)] * (-len(padded) % SHEET_COLUMNS)
        sheet = np.vstack([np.hstack(padded[i:i + SHEET_COLUMNS])
                           for i in range(0, len(padded), SHEET_COLUMNS)])
        legend = draw_legend(self._label_set, self._label_set.palette())
        height = max(len(sheet), len(legend))
        sheet = np.hstack([_taller(sheet, height), _taller(legend, height)])
        write_whole(self._folder / SHEET, encode_image(sheet, 'png'))


def _taller(picture: np.ndarray, height: int) -> np.ndarray:
    """Return the picture with white below, `height` pixels high."""
    return np.pad(picture, ((0, height - len(picture)), (0, 0), (0, 0)), constant_values=255)


def _cell(image: np.ndarray, color_mask: np.ndarray) -> np.ndarray:
    """Return the image above its colour mask, CELL_WIDTH pixels wide."""
    height = max(1, round(image.shape[0] * CELL_WIDTH / image.shape[1]))
    size = (CELL_WIDTH, height)
    gap = np.full((6, CELL_WIDTH, 3), 255, np.uint8)
    return np.vstack([cv2.resize(image, size, interpolation=cv2.INTER_AREA),
                      cv2.resize(color_mask, size, interpolation=cv2.INTER_NEAREST), gap])
