#!/usr/bin/env python3
"""Builds one stage of the Dockerfile in a folder, without a container engine: RUN in a chroot, COPY as a copy.

    container_stage.py STAGE ROOT [--from NAME=FOLDER]... [--build-arg NAME=VALUE]... [--settings FILE]

ROOT holds the system that the stage begins with (a debootstrap of what FROM names; which that is, nobody checks). STAGE is the
name of a stage, or "final". COPY --from=NAME copies out of the FOLDER given for it. What remains for the engine that runs the
image (ENV, USER, WORKDIR, ENTRYPOINT, CMD, HEALTHCHECK) is written to FILE as JSON.

It knows what our Dockerfile uses, in the meaning of Docker's reference (https://docs.docker.com/reference/dockerfile/); anything else
is an error, so that nothing is passed over in silence. Needs root, for chroot.
"""

import argparse
import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

# What RUN has in Docker where the image says nothing else.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def fail(message):
    sys.exit(f"container_stage: {message}")


def instructions(text):
    """(number of the line, name, rest) of each instruction, with continued lines joined and comments left out."""
    begun, joined = None, ""
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#") or (not line.strip() and begun is None):
            continue
        begun = begun or number
        if line.endswith("\\"):
            joined += line[:-1] + " "
            continue
        name, _, rest = (joined + line).strip().partition(" ")
        yield begun, name.upper(), rest.strip()
        begun, joined = None, ""
    if begun is not None:
        fail(f"line {begun}: the file ends within an instruction")


def expand(text, variables):
    """$NAME and ${NAME}; a name that isn't set is empty."""
    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda found: variables.get(found[1] or found[2], ""), text)


def stages(text):
    """The arguments before the first stage, and the stages: name, base, and the instructions of each."""
    arguments, found = [], []
    for number, name, rest in instructions(text):
        if name == "FROM":
            base, _, alias = rest.partition(" ")
            alias = alias.split()[-1] if alias else "final"
            found.append((alias, base, []))
        elif found:
            found[-1][2].append((number, name, rest))
        elif name == "ARG":
            arguments.append(rest)
        else:
            fail(f"line {number}: {name} before the first FROM")
    return arguments, found


class Stage:
    """One stage on its way."""

    def __init__(self, options, arguments):
        self.root = Path(options.root)
        self.context = Path(options.context)
        self.sources = dict(pair.split("=", 1) for pair in options.sources)
        self.given = dict(pair.split("=", 1) for pair in options.build_args)
        self.defaults = {}
        for argument in arguments:
            name, _, default = argument.partition("=")
            self.defaults[name] = default
        unknown = set(self.given) - set(self.defaults)
        if unknown:
            fail(f"the Dockerfile has no build argument {', '.join(sorted(unknown))}")
        self.arguments = {}
        self.environment = {"PATH": PATH}
        self.folder = "/"
        self.settings = {"User": "root"}
        self.ignored = [
            line.strip() for line in (self.context / ".dockerignore").read_text().splitlines() if line.strip() and line[0] != "#"
        ]

    def variables(self):
        return {**self.arguments, **self.environment}

    def inside(self, path):
        """Where an absolute path of the image lies here."""
        return self.root / os.path.normpath(os.path.join(self.folder, path)).lstrip("/")

    def arg(self, rest):
        name, _, default = rest.partition("=")
        self.arguments[name] = self.given.get(name, default or self.defaults.get(name, ""))

    def env(self, rest):
        pairs = re.findall(r'(\w+)=("[^"]*"|\S+)', rest)
        if not pairs:
            fail(f"ENV {rest}: not understood")
        # All of one instruction are expanded with what was there before it.
        before = self.variables()
        for name, value in pairs:
            self.environment[name] = expand(value.strip('"'), before)

    def workdir(self, rest):
        self.folder = os.path.normpath(os.path.join(self.folder, expand(rest, self.variables())))
        self.inside(self.folder).mkdir(parents=True, exist_ok=True)

    def copy(self, rest):
        source_root, ignored = self.context, self.ignored
        words = expand(rest, self.variables()).split()
        while words[0].startswith("--"):
            option, _, value = words.pop(0).partition("=")
            if option != "--from":
                fail(f"COPY {option}: not understood")
            if value not in self.sources:
                fail(f"COPY --from={value}: name its folder with --from {value}=FOLDER")
            source_root, ignored = Path(self.sources[value]), []
        *sources, destination = words
        into_folder = destination.endswith("/") or len(sources) > 1
        target = self.inside(destination)
        for source in sources:
            path = source_root / source.lstrip("/")
            if not path.exists():
                fail(f"COPY {source}: there is no {path}")
            if path.is_dir():
                # The content of a folder is copied, not the folder.
                copy_tree(path, target, source_root, ignored)
            else:
                file = target / path.name if into_folder or destination in (".", "./") else target
                file.parent.mkdir(parents=True, exist_ok=True)
                copy_file(path, file)

    def run(self, rest):
        self.chroot("root", ["/bin/sh", "-c", rest], self.variables())

    def chroot(self, user, command, variables):
        done = subprocess.run(
            ["chroot", f"--userspec={user}", str(self.root), "/usr/bin/env", "-C", self.folder, *command],
            env=variables,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode != 0:
            fail(f"{' '.join(command)}: exit status {done.returncode}")

    def step(self, number, name, rest):
        print(f"== {number}: {name} {rest}", flush=True)
        if name == "ARG":
            self.arg(rest)
        elif name == "ENV":
            self.env(rest)
        elif name == "WORKDIR":
            self.workdir(rest)
        elif name == "COPY":
            self.copy(rest)
        elif name == "RUN":
            self.run(rest)
        elif name == "USER":
            self.settings["User"] = rest
        elif name in ("ENTRYPOINT", "CMD", "VOLUME"):
            self.settings[name.capitalize()] = json.loads(rest)
        elif name == "EXPOSE":
            self.settings["Expose"] = rest.split()
        elif name == "HEALTHCHECK":
            found = re.fullmatch(r"((?:--[\w-]+=\S+ )*)CMD (\[.*\])", rest)
            if not found:
                fail(f"HEALTHCHECK {rest}: not understood")
            options = dict(option[2:].split("=", 1) for option in found[1].split())
            self.settings["Healthcheck"] = {"Test": json.loads(found[2]), **options}
        else:
            fail(f"line {number}: {name}: not understood")


def copy_file(source, target):
    """Owned by root, as Docker copies; mode and content stay, a link stays a link."""
    if target.is_symlink() or target.is_file():
        target.unlink()
    shutil.copy2(source, target, follow_symlinks=False)
    os.chown(target, 0, 0, follow_symlinks=False)


def copy_tree(source, target, root, ignored):
    """Into what is there already."""
    target.mkdir(parents=True, exist_ok=True)
    for entry in os.scandir(source):
        name = os.path.relpath(entry.path, root)
        if any(fnmatch.fnmatch(name, pattern.replace("**/", "*")) for pattern in ignored):
            continue
        if entry.is_dir(follow_symlinks=False):
            copy_tree(Path(entry.path), target / entry.name, root, ignored)
        else:
            copy_file(Path(entry.path), target / entry.name)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage")
    parser.add_argument("root")
    parser.add_argument("--context", default=str(Path(__file__).resolve().parent.parent))
    parser.add_argument("--from", dest="sources", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--build-arg", dest="build_args", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--settings", metavar="FILE")
    options = parser.parse_args()
    if os.geteuid() != 0:
        fail("needs root, for chroot")
    arguments, found = stages((Path(options.context) / "Dockerfile").read_text())
    chosen = [stage for stage in found if stage[0] == options.stage]
    if not chosen:
        fail(f"the Dockerfile has no stage {options.stage}; it has {', '.join(stage[0] for stage in found)}")
    stage = Stage(options, arguments)
    for number, name, rest in chosen[-1][2]:
        stage.step(number, name, rest)
    if options.settings:
        stage.settings["Env"] = stage.environment
        stage.settings["WorkingDir"] = stage.folder
        Path(options.settings).write_text(json.dumps(stage.settings, indent=2))


if __name__ == "__main__":
    main()
