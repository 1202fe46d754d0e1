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

"""Write folders of images and masks laid out like CamVid."""

from pathlib import Path

import cv2
import numpy as np

from segnet_ros.labels import VOID

# The id of void in the files of camvid11.
FILE_VOID = 11


def write_split(folder: Path, split: str, frames: dict[str, tuple[np.ndarray, np.ndarray]]):
    """
    Write FOLDER/SPLIT and FOLDER/SPLITannot.

    :param frames: by file name, image (H, W, 3) uint8 RGB and label map (H, W) uint8.
    """
    images, masks = folder / split, folder / f'{split}annot'
    images.mkdir()
    masks.mkdir()
    for name, (image, label_map) in frames.items():
        cv2.imwrite(str(images / name), image[..., ::-1])
        cv2.imwrite(str(masks / name), np.where(label_map == VOID, FILE_VOID, label_map))
