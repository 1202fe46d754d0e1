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

"""Labelled frames for training and scoring: CamVid-style folders and the rendered sample drive."""

from collections.abc import Iterator
import logging
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset, DistributedSampler
from tqdm import tqdm

from segnet_ros.annotations import annotations_by_stem, read_annotation
from segnet_ros.frames import decode_image, IMAGE_SUFFIXES, is_image_file
from segnet_ros.labels import LabelSet, VOID
from segnet_ros.sample_drive.drive import SAMPLE_FRAMES, SampleDrive
from segnet_ros.segmenter import fit_input_size
from segnet_ros.training.augmentation import LabelledFrame, paste_classes, random_crop, recolor
from segnet_ros.training.config import TrainConfig
from segnet_ros.training.corruptions import degrade

# Rare classes are pasted in from a frame at most this many frames away.
_NEAR = 20


def frame_paths(data: str | Path, split: str) -> list[tuple[Path, Path]]:
    """
    Return the (image, annotation) files of a split, by name.

    :param data: folder that holds SPLIT/ (images of frames.IMAGE_SUFFIXES) and SPLITannot/ (a PNG
        of the same name for each).
    :param split: one split, or several joined by '+', e.g. 'train+val'; 'train:0006R0' takes
        only the images of train whose names start with 0006R0: one drive.
    :raises FileNotFoundError: if a folder is missing or empty, or an image has no annotation.
    :raises ValueError: if no image's name starts with that prefix, or two differ only in suffix.
    """
    pairs: list[tuple[Path, Path]] = []
    for part in split.split('+'):
        name, _, prefix = part.partition(':')
        folder, annotations = Path(data) / name, Path(data) / (name + 'annot')
        images = sorted(filter(is_image_file, folder.glob('*')))
        if not images:
            raise FileNotFoundError(
                f'no images ({", ".join(IMAGE_SUFFIXES)}) in {folder}; --data needs a folder with '
                f'{name}/ (images) and {name}annot/ (class ids)')
        by_stem = {path.stem: path for path in images}
        if twice := [path for path in images if by_stem[path.stem] != path]:
            raise ValueError(f'{twice[0]} and {by_stem[twice[0].stem].name} would have the same '
                             'annotation; rename one, or take it away')
        masks = annotations_by_stem(annotations)
        if unused := [path.name for stem, path in masks.items() if stem not in by_stem]:
            logging.warning('masks without an image (%s) in %s, e.g. %s: they are left out; their '
                            'number: %d', ', '.join(IMAGE_SUFFIXES), annotations, unused[0],
                            len(unused))
        images = [path for path in images if path.name.startswith(prefix)]
        if not images:
            raise ValueError(f"split '{part}': no image in {folder} has a name that starts with "
                             f"'{prefix}'")
        if missing := [path.stem for path in images if path.stem not in masks]:
            raise FileNotFoundError(f"{annotations / (missing[0] + '.png')} is missing: every "
                                    'image needs its annotation')
        pairs += [(path, masks[path.stem]) for path in images]
    return pairs


def read_frame(image_path: Path, annotation_path: Path, label_set: LabelSet) -> LabelledFrame:
    """
    Read an image and its annotation.

    :raises ValueError: naming the file that cannot be decoded or does not fit.
    """
    try:
        image = decode_image(image_path.read_bytes(), upright=True)
    except ValueError as error:
        raise ValueError(f'{image_path}: {error}') from error
    label_map = read_annotation(annotation_path, label_set)
    if label_map.shape != image.shape[:2]:
        raise ValueError(f'{annotation_path} is {label_map.shape}; it must have the size of its '
                         f'image, {image.shape[:2]}')
    return image, label_map


def _resize_frame(frame: LabelledFrame, size: tuple[int, int]) -> LabelledFrame:
    """Return the frame scaled to (height, width), or itself if it has that size."""
    image, label_map = frame
    if label_map.shape == size:
        return frame
    shrinks = size[0] < label_map.shape[0]
    return (cv2.resize(image, size[::-1],
                       interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR),
            cv2.resize(label_map, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT))


def read_frames(paths: list[tuple[Path, Path]], label_set: LabelSet, size: tuple[int, int],
                what: str) -> list[LabelledFrame]:
    """
    Read frames into memory, with a progress bar named `what`.

    Each is scaled as the node would scale it: to `size` if it has that aspect ratio, else to as
    many pixels in its own. CamVid's 367 frames take 250 MB.
    """
    with tqdm(paths, what, unit='frame', leave=False) as progress:  # cleared before an error shows
        frames = (read_frame(*pair, label_set) for pair in progress)
        return [_resize_frame(frame, fit_input_size(size, frame[1].shape)) for frame in frames]


def class_shares(frames: list[LabelledFrame], num_classes: int) -> np.ndarray:
    """Return each class's share of the labelled pixels, (num_classes,) float64."""
    counts = np.zeros(256)
    for _, label_map in frames:
        counts += np.bincount(label_map.ravel(), minlength=256)
    return counts[:num_classes] / max(1, counts[:num_classes].sum())


class TrainingFrames(Dataset):
    """
    Augmented crops: (3, h, w) uint8 RGB and (h, w) uint8 label map, by (epoch, index).

    The rendered frames come after the real ones and differ in every epoch. An item depends only
    on seed, epoch (from 0) and index, so a resumed run sees the crops that it would have seen.

    :param shares: (num_classes,) each class's share of the pixels; decides which are rare.
    """

    def __init__(self, frames: list[LabelledFrame], shares: np.ndarray, config: TrainConfig):
        self._frames = frames
        self._config = config
        self._rare = np.zeros(256, bool)
        self._rare[:len(shares)] = shares < config.rare_share

    def __len__(self) -> int:
        """Return the number of crops in an epoch."""
        return len(self._frames) + self._config.sample_drive_frames

    def __getitem__(self, item: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return one crop."""
        epoch, index = item
        rng = np.random.default_rng((self._config.seed, epoch, index, 1))
        crop = self._crop(epoch, index, index, rng)
        if rng.random() < self._config.paste:
            near = self._near(index, int(rng.integers(-_NEAR, _NEAR + 1)))
            crop = paste_classes(crop, self._crop(epoch, near, index, rng), self._rare)
        image, label_map = crop
        image = recolor(image, self._config.jitter, rng)
        if rng.random() < self._config.degrade:
            image = degrade(image, rng)
        return torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(label_map)

    def _near(self, index: int, distance: int) -> int:
        """Return a nearby frame, mostly of the same drive; real and rendered never mix."""
        real = len(self._frames)
        if index < real:
            return (index + distance) % real
        return real + (index - real + distance) % (len(self) - real)

    def _crop(self, epoch: int, index: int, place: int, rng: np.random.Generator) -> LabelledFrame:
        """Return a crop of a frame; `place` seeds its scale, position and flip."""
        if index < len(self._frames):
            frame = self._frames[index]
        else:
            height, width = self._frames[0][1].shape
            drive = SampleDrive(seed=int(rng.integers(2**31)), size=(height, width))
            frame = drive.frame(int(rng.integers(SAMPLE_FRAMES)))
        config = self._config
        return random_crop(*frame, config.phase(epoch),
                           np.random.default_rng((config.seed, epoch, place)), config.rotate)


class EpochOrder(DistributedSampler):
    """
    The (epoch, index) of an epoch's crops, in an order that depends only on seed and epoch.

    Each index carries its epoch, so the data workers can live as long as the run: on a GPU an
    epoch may take no more than three seconds. This is a DistributedSampler because lightning
    calls its set_epoch, and would shuffle any other sampler again, by an epoch of its own.

    :param epoch: the first epoch, from 0.
    :param processes: number of processes that share the crops; if the crops do not divide evenly,
        some are used twice.
    :param rank: of this process.
    """

    def __init__(self, length: int, seed: int, epoch: int, processes: int = 1, rank: int = 0):
        super().__init__(range(length), processes, rank, seed=seed)  # type: ignore[arg-type]
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Go through this process's part of the epoch."""
        rng = np.random.default_rng((self.seed, self.epoch))
        order = rng.permutation(len(self.dataset))  # type: ignore[arg-type]
        mine = np.resize(order, self.total_size)[self.rank::self.num_replicas]
        return ((self.epoch, index) for index in mine.tolist())


class ScoringFrames(Dataset):
    """
    Whole frames as read_frames gives them: (3, H, W) uint8 RGB and (H, W) uint8 label map.

    They are scored at the network's input size, whereas evaluate.py scores at the size of the
    masks.

    :param processes: number of processes that share the frames. All must get the same number, so
        frames that are all void, and count nowhere, fill the gap: no frame is scored twice.
    """

    def __init__(self, frames: list[LabelledFrame], processes: int = 1):
        image, label_map = frames[0]
        self._frames = frames + [(image, np.full_like(label_map, VOID))] * (
            -len(frames) % processes)

    def __len__(self) -> int:
        """Return the number of frames, void ones included."""
        return len(self._frames)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return one frame."""
        image, label_map = self._frames[index]
        return torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(label_map)
