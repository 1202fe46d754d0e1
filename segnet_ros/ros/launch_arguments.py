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

"""Parse the arguments of launch files; knows nothing of what is launched."""

# An empty argument counts as false.
TRUE, FALSE = ('true', '1', 'yes', 'on'), ('false', '0', 'no', 'off', '')


def is_true(name: str, value: str) -> bool:
    """
    Return the value of a boolean argument.

    :raises ValueError: if it is neither true nor false: a misspelt "true" must not turn it off.
    """
    if value.lower() not in TRUE + FALSE:
        raise ValueError(f'{name}:={value} is neither true nor false')
    return value.lower() in TRUE
