"""make.py FOLDER: writes small models of every kind that sherpa-onnx loads here, one folder each. See README.md."""

import sys
from pathlib import Path

# No __pycache__ beside the sources: this runs from a checkout.
sys.dont_write_bytecode = True

import nemo
import offline_moonshine
import offline_sense_voice
import offline_zipformer
import streaming_paraformer
import streaming_t_one
import streaming_zipformer
import tts_matcha
import tts_styled
import tts_vits

KINDS = {
    "zipformer": streaming_zipformer.transducer,
    "zipformer-ctc": streaming_zipformer.ctc,
    "zipformer-bench": streaming_zipformer.bench,
    "kroko": streaming_zipformer.kroko,
    "nemo-streaming-ctc": nemo.streaming_ctc,
    "nemo-streaming-transducer": nemo.streaming_transducer,
    "paraformer-streaming": streaming_paraformer.paraformer,
    "t-one": streaming_t_one.t_one,
    "moonshine": offline_moonshine.moonshine,
    "parakeet-tdt": nemo.parakeet_tdt,
    "nemo-transducer": nemo.transducer,
    "nemo-ctc": nemo.ctc,
    "offline-zipformer": offline_zipformer.transducer,
    "offline-zipformer-ctc": offline_zipformer.ctc,
    "sense-voice": offline_sense_voice.sense_voice,
    "piper": tts_vits.piper,
    "piper-raw": tts_vits.piper_raw,
    "piper-rateless": tts_vits.piper_rateless,
    "vits-lexicon": tts_vits.lexicon,
    "melo": tts_vits.melo,
    "kokoro": tts_styled.kokoro,
    "kokoro-multi": tts_styled.kokoro_multi,
    "kitten": tts_styled.kitten,
    "matcha": tts_matcha.matcha,
}


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: make.py FOLDER")
    for kind, write in KINDS.items():
        folder = Path(sys.argv[1], f"synthetic-{kind}")
        folder.mkdir(parents=True, exist_ok=True)
        write(folder)


if __name__ == "__main__":
    main()
