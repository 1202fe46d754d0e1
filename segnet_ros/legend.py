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

"""The legend: a picture of the class names next to their colours."""

import cv2
import numpy as np

from segnet_ros.labels import LabelSet

ROW = 28  # pixels per class
NAMES_AT = 56  # pixels from the left
FONT = (cv2.FONT_HERSHEY_SIMPLEX, 0.5)


def draw_legend(label_set: LabelSet, palette: np.ndarray) -> np.ndarray:
    """
    Return the legend: a patch of colour and the name on each row.

    (28 * C, W, 3) uint8 RGB; W is 220, or more if the longest name needs it.

    :param palette: (256, 3) uint8 RGB by class id.
    """
    longest = max(cv2.getTextSize(name, *FONT, 1)[0][0] for name in label_set.class_names)
    width = max(220, NAMES_AT + longest + 6)
    picture = np.full((ROW * len(label_set), width, 3), 255, np.uint8)
    for class_id, name in enumerate(label_set.class_names):
        top = class_id * ROW
        color = tuple(int(c) for c in palette[class_id])
        cv2.rectangle(picture, (6, top + 5), (46, top + ROW - 5), color, cv2.FILLED)
        cv2.putText(picture, name, (NAMES_AT, top + 19), *FONT, (0, 0, 0), 1, cv2.LINE_AA)
    return picture
