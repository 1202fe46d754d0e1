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

"""The parameters that may change while the node is active, as one value, replaced as a whole."""

from dataclasses import dataclass, fields

import numpy as np

from segnet_ros.labels import LabelSet
from segnet_ros.ros.parameters import ALERT_PREFIX, PALETTE_PREFIX, parse_color, parse_roi


@dataclass(frozen=True, eq=False)
class Settings:
    """
    What a worker reads for a frame; an instance never changes while it is in use.

    :param alerts: by class name, the fraction above which its status is WARN.
    :param palette: (256, 3) uint8 RGB by class id.
    :param roi: x, y, width, height as shares of the picture; None for no region statistics.
    """

    max_frame_age: float
    max_rate: float
    confidence_threshold: float
    overlay_alpha: float
    jpeg_quality: int
    no_image_warning_period: float
    output_rate_warning: float
    latency_warning: float
    roi: tuple[float, float, float, float] | None
    alerts: dict[str, float]
    palette: np.ndarray

    @classmethod
    def read(cls, node, label_set: LabelSet) -> 'Settings':
        """Return the settings from a node's parameters."""
        def value(name):
            return node.get_parameter(name).value

        plain = {f.name for f in fields(cls)} - {'roi', 'alerts', 'palette'}
        palette = label_set.palette()
        for class_id, name in enumerate(label_set.class_names):
            palette[class_id] = parse_color(value(f'{PALETTE_PREFIX}.{name}'))
        return cls(**{name: value(name) for name in plain}, palette=palette,
                   roi=parse_roi(value('statistics_roi')),
                   alerts={name: value(f'{ALERT_PREFIX}.{name}')
                           for name in label_set.class_names})
