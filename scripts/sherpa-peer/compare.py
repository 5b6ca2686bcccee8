"""Streams per core: sherpa-onnx's own WebSocket server against Repartee's worker, with the same model and the same recordings.

Called by scripts/bench-sherpa-peer.sh. Both servers get one core and one inference thread, the clients another core, and they are measured
in turns within one run, so that whoever else uses the machine disturbs both alike:

- "at once": all streams are sent as fast as the server takes them; seconds of audio per second of the server's processor time;
- "some at the pace of speech": 100 ms of audio every 100 ms on each of a fixed number of streams; the same;
- "at the pace of speech": the same pace, more and more streams until the final results of one in twenty come later than LIMIT
  after the end; the largest number before that.
"""

import argparse
import array
import asyncio
import json
import math
import os
import socket
import statistics
import subprocess
import sys
import time
import wave
from pathlib import Path

import websockets

RATE = 16000
# Both clients send as much at a time: what a caller's side collects without being noticed.
PACKET_MS = 100
# Streams begin evenly spread over one chunk of a usual streaming model.
SPREAD_MS = 320
# A stream whose final result comes later than this after its end has fallen behind: what comes on time comes within a few steps.
LIMIT_MS = 1000
# How far beyond its start the ladder may go, by which part of that each step is higher, and to what it goes down where even the start
# was too high.
LADDER = 3.0
UP = 0.08
DOWN = 0.85


def processor_seconds(pid):
    """Of all threads of a process and its ended children; see proc_pid_stat(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def quantile(values, part):
    """The value at the nearest rank."""
    return sorted(values)[max(0, math.ceil(part * len(values)) - 1)]


def floats(path, seconds):
    """The recording as the server wants it: 32 bit floats, repeated until it's long enough."""
    with wave.open(str(path)) as file:
        if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (RATE, 1, 2):
            sys.exit(f"{path}: has to be 16 kHz, one channel, 16 bit")
        samples = array.array("h", file.readframes(file.getnframes()))
    wanted = seconds * RATE
    samples = (samples * (wanted // len(samples) + 1))[:wanted]
    return array.array("f", (sample / 32768 for sample in samples)).tobytes()


class Peer:
    """sherpa-onnx-online-websocket-server."""

    def __init__(self, arguments, batch):
        self.name = f"sherpa-onnx's server, batches of {batch}"
        self.audio = [floats(path, arguments.seconds) for path in arguments.audio]
        self.seconds = arguments.seconds
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        model = Path(arguments.models, arguments.model)
        file = lambda role: str(next(path for path in sorted(model.glob(f"{role}*.onnx"))))
        self.log = open(Path(arguments.work, f"server-{batch}.log"), "wb")
        self.process = subprocess.Popen(
            ["taskset", "-c", arguments.core, arguments.server, f"--port={self.port}", f"--max-batch-size={batch}"]
            + ["--num-work-threads=1", "--num-io-threads=1", "--num-threads=1", "--loop-interval-ms=10"]
            + ["--model-type=zipformer2", f"--tokens={model / 'tokens.txt'}", f"--encoder={file('encoder')}"]
            + [f"--decoder={file('decoder')}", f"--joiner={file('joiner')}"]
            + [f"--log-file={Path(arguments.work, f'server-{batch}.txt')}"],
            stdout=self.log,
            stderr=self.log,
        )
        for _ in range(600):
            if self.process.poll() is not None:
                sys.exit(f"the server ended; see {self.log.name}")
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.1)
        sys.exit("the server doesn't answer")

    def stop(self):
        self.process.kill()
        self.process.wait()

    def measure(self, streams, at_once):
        return asyncio.run(self._measure(streams, at_once))

    async def _measure(self, streams, at_once):
        before = processor_seconds(self.process.pid)
        began = time.monotonic()
        spread = 0 if at_once else SPREAD_MS / 1000 / streams
        results = await asyncio.gather(
            *(self._stream(self.audio[n % len(self.audio)], began + n * spread, at_once) for n in range(streams))
        )
        processor = processor_seconds(self.process.pid) - before
        return {
            "audio_per_processor": streams * self.seconds / processor,
            "load": processor / (time.monotonic() - began),
            "final_ms": quantile([final for final, _, _ in results], 0.5),
            "final_p95_ms": quantile([final for final, _, _ in results], 0.95),
            "late_ms": max(late for _, late, _ in results),
            "messages": statistics.mean(messages for _, _, messages in results),
        }

    async def _stream(self, audio, begins, at_once):
        packet = RATE * PACKET_MS // 1000 * 4
        url = f"ws://127.0.0.1:{self.port}"
        # Neither compression nor pings: they'd be work that has nothing to do with recognition.
        async with websockets.connect(url, max_size=None, ping_interval=None, compression=None) as link:
            messages = 0
            last = time.monotonic()

            async def listen():
                nonlocal messages, last
                async for message in link:
                    if message == "Done!":
                        return
                    messages += 1
                    last = time.monotonic()

            listening = asyncio.create_task(listen())
            late = 0.0
            due = begins
            for at in range(0, len(audio), packet):
                if not at_once:
                    due += PACKET_MS / 1000
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
                    late = max(late, time.monotonic() - due)
                await link.send(audio[at : at + packet])
            # The end as it should have been: a server that doesn't read makes its client late.
            end = time.monotonic() if at_once else due
            await link.send("Done")
            await listening
            return (max(0.0, last - end) * 1000, late * 1000, messages)


class Ours:
    """Repartee's worker, measured over its link."""

    def __init__(self, arguments):
        self.name = "Repartee's worker"
        # The link's client starts it, so the core is given to it by a program in between.
        pinned = Path(arguments.work, "pinned-worker.sh")
        pinned.write_text(f'#!/bin/sh\nexec taskset -c {arguments.core} "{arguments.worker}" "$@"\n')
        pinned.chmod(0o755)
        self.command = [arguments.measure, "--worker", str(pinned), "--job", "stt", "--models", arguments.models]
        self.command += ["--model", arguments.model, "--loads", "1", "--rounds", "1", "--json"]
        self.command += ["--seconds", str(arguments.seconds), "--packet-ms", str(PACKET_MS)]
        self.command += ["--spread-ms", str(SPREAD_MS)]
        for path in arguments.audio:
            self.command += ["--audio", str(path)]

    def stop(self):
        pass

    def measure(self, streams, at_once):
        command = self.command + ["--streams", str(streams), "--option", f"streams={min(streams, 256)}"]
        command += ["--pace", "flood" if at_once else "realtime"]
        answer = subprocess.run(command, stdout=subprocess.PIPE, check=False)
        if answer.returncode != 0:
            sys.exit("the worker could not be measured; its reason is above")
        figures = json.loads(answer.stdout)["figures"]
        number = str(streams)
        if at_once:
            return {"audio_per_processor": figures["streams_per_core"][number]}
        return {
            "audio_per_processor": figures["realtime_streams_per_core"][number],
            "final_ms": figures["final_ms"][number]["median"],
            "final_p95_ms": figures["final_ms"][number]["p95"],
            "late_ms": figures["late_ms"][number]["worst"],
        }


def say(*words):
    print(*words, file=sys.stderr, flush=True)


def ladders(servers, starts, round_number):
    """The most streams that each keeps up with: one step of each in turn, upwards until it falls behind, or down until it doesn't."""
    kept = [0] * len(servers)
    streams = [max(1, round(start)) for start in starts]
    climbing = list(range(len(servers)))
    while climbing:
        for number in list(climbing):
            result = servers[number].measure(streams[number], False)
            behind = result["final_p95_ms"] > LIMIT_MS
            say(
                f"round {round_number}: {servers[number].name}: {streams[number]} streams at the pace of speech: final"
                f" after {result['final_ms']:.0f} ms, one in twenty after {result['final_p95_ms']:.0f} ms, audio per"
                f" processor {result['audio_per_processor']:.1f}, sent late by {result['late_ms']:.0f} ms at most"
                f"{': behind' if behind else ''}"
            )
            if behind and kept[number] == 0 and streams[number] > 1:
                streams[number] = int(streams[number] * DOWN)
                continue
            if not behind:
                # One that had to go down before stops at the first that it keeps up with.
                went_down = streams[number] < max(1, round(starts[number]))
                kept[number] = streams[number]
                streams[number] = math.ceil(streams[number] + starts[number] * UP)
                if not went_down and streams[number] <= starts[number] * LADDER:
                    continue
            climbing.remove(number)
    return kept


def main():
    parser = argparse.ArgumentParser()
    for name in ("server", "worker", "measure", "models", "model", "work"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--audio", action="append", required=True)
    parser.add_argument("--core", default="0")
    parser.add_argument("--client-core", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=15)
    parser.add_argument("--streams", type=int, default=32, help="at once")
    parser.add_argument("--some", type=int, default=24, help="streams at the pace of speech")
    parser.add_argument("--batches", default="16,32")
    parser.add_argument("--no-ladder", action="store_true")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {arguments.client_core})

    # The peer with each of its good settings, and the worker as it comes.
    servers = [Peer(arguments, int(batch)) for batch in arguments.batches.split(",")] + [Ours(arguments)]
    at_once = [[] for _ in servers]
    paced = [[] for _ in servers]
    kept = [[] for _ in servers]
    try:
        for round_number in range(1, arguments.rounds + 1):
            for server, results in zip(servers, at_once):
                result = server.measure(arguments.streams, True)
                results.append(result["audio_per_processor"])
                say(f"round {round_number}: {server.name}: at once {results[-1]:.1f}")
            for server, results in zip(servers, paced):
                result = server.measure(arguments.some, False)
                results.append(result["audio_per_processor"])
                say(
                    f"round {round_number}: {server.name}: {arguments.some} at the pace of speech {results[-1]:.1f}, final"
                    f" after {result['final_ms']:.0f} ms, one in twenty after {result['final_p95_ms']:.0f} ms"
                )
            if arguments.no_ladder:
                continue
            # Somewhat below what each can do by its processor time, as far as that has shown.
            starts = [max(1.0, statistics.median(results) * 0.6) for results in at_once]
            for results, most in zip(kept, ladders(servers, starts, round_number)):
                results.append(most)
    finally:
        for server in servers:
            server.stop()

    columns = (at_once, paced, kept)
    best = [math.nan for _ in columns]
    print(f"### Streams per core: `{arguments.model}`, {arguments.rounds} rounds, medians (each round)\n")
    print(
        "| | seconds of audio per second of processor, at once"
        f" | the same, {arguments.some} streams at the pace of speech | streams that keep up at the pace of speech |"
    )
    print("| --- | --: | --: | --: |")
    for number, server in enumerate(servers):
        cells = [statistics.median(column[number]) if column[number] else math.nan for column in columns]
        texts = []
        for cell, column in zip(cells, columns):
            each = ", ".join(f"{value:.4g}" for value in column[number])
            texts.append("–" if math.isnan(cell) else f"{cell:.4g} ({each})")
        print(f"| {server.name} | {' | '.join(texts)} |")
        if isinstance(server, Peer):
            best = [cell if math.isnan(most) else max(cell, most) for cell, most in zip(cells, best)]
        else:
            ratios = ["–" if math.isnan(cell) or not most else f"{cell / most:.2f}" for cell, most in zip(cells, best)]
            print(f"| worker against the better of the server's settings | {' | '.join(ratios)} |")
    print(
        f"\n{arguments.streams} streams at once, {arguments.seconds} s each. The server: one inference thread, one for the"
        " network, a loop of 10 ms; both on one core, their clients on another. A stream keeps up if its final result"
        f" comes within {LIMIT_MS} ms of its end, for nineteen in twenty."
    )


if __name__ == "__main__":
    main()
