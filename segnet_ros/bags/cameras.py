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
Which of a bag's topics are cameras, what their results are called, and how originals are copied.

Knows topics and types; reads no images.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rosbags.interfaces import Connection, MessageDefinitionFormat
from rosbags.serde import SerdeError
from rosbags.typesys import (
    get_types_from_idl, get_types_from_msg, get_typestore, Stores, TypesysError)

from segnet_ros.bags.reading import (
    bag_topics, BagTopic, COMPRESSED, IMAGE, open_bag, read_messages, TYPES)
from segnet_ros.bags.split_bag import OutTopic
from segnet_ros.encodings import is_depth, SUPPORTED_ENCODINGS


def camera_topics(source: str | Path, names: Iterable[str] = ()
                  ) -> tuple[list[BagTopic], list[ValueError]]:
    """
    Return the named image topics of a bag; without names, all that hold camera images.

    Depth images and topics named .../segmentation/... do not count as camera images.

    :return: the topics, and an error for each camera left out because of its encoding.
    :raises ValueError: listing the image topics, if a named one is missing or none can be read.
    """
    images = {t.name: t for t in bag_topics(source)
              if t.type_name in (IMAGE, COMPRESSED) and t.count}
    names = dict.fromkeys(names)
    wrong = [name for name in names if name not in images]
    chosen = [images[name] for name in names if name in images]
    unread = []
    for topic in () if chosen or wrong else images.values():
        encoding = _encoding(source, topic)
        if '/segmentation/' in topic.name or is_depth(encoding or ''):
            continue
        if topic.is_compressed or encoding in (None, *SUPPORTED_ENCODINGS):
            chosen.append(topic)
        else:
            unread.append(ValueError(f"{source}: {topic.name}: encoding '{encoding}' is "
                                     'not supported'))
    if wrong or not chosen:
        known = ', '.join(images) or 'none with messages'
        raise ValueError('; '.join([
            f"{source} has no image topic {', '.join(wrong) or 'that can be read'}",
            f'image topics there: {known}', *map(str, unread)]))
    return chosen, unread


def result_prefixes(topics: list[str]) -> dict[str, str]:
    """Return a distinct topic prefix for the results of each image topic."""
    spaces = [topic.removesuffix('/compressed').rpartition('/')[0] for topic in topics]
    chosen = [space if spaces.count(space) == 1 else topic
              for topic, space in zip(topics, spaces, strict=True)]
    if len({*chosen}) < len(chosen):  # one camera's namespace is another's topic
        chosen = topics
    return {topic: begin + '/segmentation' for topic, begin in zip(topics, chosen, strict=True)}


def copied_topics(source: str | Path) -> list[OutTopic]:
    """
    Return all topics of a bag, as a new one needs them to copy the messages unchanged.

    :raises ValueError: if the bag lacks a type's definition, or a topic has several types.
    """
    with open_bag(source) as reader:
        mixed = [name for name, info in reader.topics.items() if info.msgtype is None]
        if mixed:
            raise ValueError(f'{source}: {", ".join(mixed)} has messages of several types and '
                             'cannot be copied; use --results-only')
        connections = {connection.topic: connection for connection in reader.connections}
        definitions = {name: _definition(source, c) for name, c in connections.items()}
    return [OutTopic(topic.name, topic.type_name, *definitions[topic.name], topic.qos)
            for topic in bag_topics(source)]


def check_names(source: str | Path, topics: Sequence[OutTopic]):
    """Raise ValueError if two of a new bag's topics have the same name."""
    twice = [name for name, count in Counter(t.name for t in topics).items() if count > 1]
    if twice:
        raise ValueError(f'{source} already has topics {", ".join(twice)}; use --results-only, '
                         'or a bag without them')


def _definition(source: str | Path, connection: Connection) -> tuple[str, str]:
    """Return a type's definition and digest; bags older than ROS 2 Iron lack one or both."""
    form, text = connection.msgdef
    name = connection.msgtype
    if form == MessageDefinitionFormat.NONE:
        if name not in TYPES.types:
            raise ValueError(f'{source}: {connection.topic} cannot be copied because the bag '
                             f'lacks the definition of {name}; use --results-only')
        return TYPES.generate_msgdef(name, ros_version=2)[0], TYPES.hash_rihs01(name)
    if connection.digest:
        return text, connection.digest
    types = get_typestore(Stores.EMPTY)
    try:
        types.register(get_types_from_idl(text) if form == MessageDefinitionFormat.IDL else
                       get_types_from_msg(text, name))
        return text, types.hash_rihs01(name)
    except (TypesysError, KeyError) as error:  # a service's; or a part's definition is missing
        raise ValueError(f'{source}: {connection.topic} cannot be copied because the definition '
                         f'of {name} in the bag cannot be read; use --results-only') from error


def _encoding(source: str | Path, topic: BagTopic) -> str | None:
    """Return the encoding (compressed: the format) of a topic's first intact message, if any."""
    with suppress(ValueError):  # damage is reported when the whole bag is read
        for message in read_messages(source, [topic.name]):
            try:
                image: Any = TYPES.deserialize_cdr(message.cdr, message.type_name)
            except SerdeError:  # later messages may be intact
                continue
            if not len(image.data):  # as some drivers send before the first image
                continue
            return image.format if message.type_name == COMPRESSED else image.encoding
    return None
