//! The keys of the telephone.

use super::{Key, Kind, Section, count, milliseconds, seconds};
use crate::config::meaning::telephone::{Codec, Full, Media, Terminator};

/// Their sections.
pub(super) const SECTIONS: [Section; 6] = [
    Section {
        name: "phone",
        help: "Telephone calls, whatever wire they come by.",
    },
    Section {
        name: "audiosocket",
        help: "Asterisk's AudioSocket (Asterisk 18 and later).",
    },
    Section {
        name: "rtp",
        help: "RTP over UDP, for Asterisk's externalMedia.",
    },
    Section {
        name: "asterisk",
        help: "The ARI application: Asterisk's calls are answered, transferred and ended by its REST interface.",
    },
    Section {
        name: "twilio",
        help: "Twilio Media Streams, at /twilio. With server.token, a stream's parameter `token` must carry it.",
    },
    Section {
        name: "vosk",
        help: "In place of a Vosk server, for speech recognition alone.",
    },
];

/// The keys, in the order of the sections.
pub(super) const KEYS: [Key; 35] = [
    Key::new(
        "phone.greet",
        Kind::Switch,
        "true",
        "Whether a call begins with phone.greeting. Without it the caller speaks first.",
    ),
    Key::new(
        "phone.greeting",
        Kind::Text,
        "Hello. How can I help you?",
        "What is said when a call is answered.",
    ),
    Key::new(
        "phone.instructions",
        Kind::Text,
        "",
        "The system prompt of telephone calls; what is known of the call (numbers, channel variables) is put behind it. Not set: \
         llm.instructions.",
    ),
    Key::new(
        "phone.without_llm",
        Kind::Text,
        "I am sorry. This server has no language model, so nobody can answer you. Goodbye.",
        "What a caller hears, before the call is ended, where there is no language model. \"parrot\" counts as one only if \
         llm.backend names it.",
    ),
    Key::new(
        "phone.trouble",
        Kind::Text,
        "I am sorry, something went wrong. Please say that again.",
        "What a caller hears where a reply could not be made. After the third in a row the call is ended.",
    ),
    Key::new(
        "phone.allowed_networks",
        Kind::Networks,
        "",
        "Networks that AudioSocket, RTP and Vosk clients may come from, beside this machine itself: these wires know no \
         password. Needed where one of them listens on anything but loopback.",
    ),
    Key::new(
        "phone.echo_guard",
        Kind::Switch,
        "true",
        "Whether our own voice, coming back over the line, is taken out of what is heard.",
    ),
    Key::new(
        "phone.comfort_noise",
        Kind::Switch,
        "false",
        "Whether a faint noise is sent while nobody speaks, so that the line doesn't sound dead.",
    ),
    Key::new(
        "phone.gather_keys",
        Kind::Switch,
        "true",
        "Whether telephone keys are gathered into something that the caller says; the first one interrupts a reply. Without \
         it they are only reported.",
    ),
    Key::new(
        "phone.keys_terminator",
        Kind::Choice(Terminator::WORDS),
        "#",
        "The key that ends an entry.",
    ),
    Key::new(
        "phone.keys_timeout_ms",
        milliseconds(100, 60_000),
        "3000",
        "An entry ends when no further key came for so long.",
    ),
    Key::new(
        "phone.keys_max",
        count(1, 64),
        "20",
        "An entry ends when it has so many keys.",
    ),
    Key::new(
        "phone.ringing_s",
        seconds(1, 600),
        "30",
        "The far side rings for so long: reported as an event.",
    ),
    Key::new(
        "phone.announcement_s",
        seconds(1, 600),
        "20",
        "The far side speaks from the beginning for so long without a pause: an announcement, reported as an event.",
    ),
    // --- audiosocket
    Key::new(
        "audiosocket.listen",
        Kind::Address,
        "",
        "Address and port for Asterisk's AudioSocket, such as 127.0.0.1:9092. Not set: nobody listens, unless asterisk.url \
         and asterisk.media ask for it.",
    ),
    Key::new(
        "audiosocket.uuid_timeout_s",
        seconds(1, 3_600),
        "300",
        "How long a connection may take to say which call it is: ARI's channels connect minutes before they are dialled.",
    ),
    // --- rtp
    Key::new(
        "rtp.listen",
        Kind::Address,
        "",
        "Address and first port for RTP, such as 127.0.0.1:9100. Not set: nobody listens, unless asterisk.url and \
         asterisk.media ask for it.",
    ),
    Key::new(
        "rtp.ports",
        count(1, 200),
        "20",
        "How many ports, from the first on: each serves one call at a time.",
    ),
    Key::new(
        "rtp.codec",
        Kind::Choice(Codec::WORDS),
        "pcmu",
        "What is sent, whatever is received: Asterisk takes static payload types only.",
    ),
    Key::new(
        "rtp.idle_timeout_s",
        seconds(5, 3_600),
        "30",
        "A call ends when nothing came for so long.",
    ),
    // --- asterisk
    Key::new(
        "asterisk.url",
        Kind::Url,
        "",
        "Base address of Asterisk's HTTP server, such as http://127.0.0.1:8088. Not set: no ARI application.",
    ),
    Key::new("asterisk.user", Kind::Text, "", "User of ari.conf."),
    Key::new("asterisk.password", Kind::Text, "", "Its password.").secret(),
    Key::new(
        "asterisk.app",
        Kind::Text,
        "repartee",
        "Name of the application, as in Stasis(repartee).",
    ),
    Key::new(
        "asterisk.media",
        Kind::Choice(Media::WORDS),
        "audiosocket",
        "How a call's sound comes: audiosocket (audiosocket.listen), chan_websocket (Asterisk 22.8, 20.18, 23.2 and later), rtp (rtp.listen).",
    ),
    Key::new(
        "asterisk.media_address",
        Kind::Text,
        "",
        "Host, or host and port, at which Asterisk reaches the listener of asterisk.media, if it isn't the listener's own address.",
    ),
    Key::new(
        "asterisk.format",
        Kind::Text,
        "slin16",
        "How Asterisk sends the sound: slin (8 kHz), slin16, slin24, slin48; for AudioSocket anything but slin needs Asterisk 20.17, \
         22.7 or 23.1.",
    ),
    Key::new(
        "asterisk.json",
        Kind::Switch,
        "true",
        "Whether chan_websocket's events are JSON; Asterisk 20.16, 21.11, 22.6, 22.7 and 23.1 know plain text only.",
    ),
    Key::new(
        "asterisk.websocket_client",
        Kind::Text,
        "",
        "Connection of websocket_client.conf by which Asterisk calls us for chan_websocket. Not set: we call Asterisk.",
    ),
    Key::new(
        "asterisk.context",
        Kind::Text,
        "default",
        "Context of the dialplan that callers are transferred in.",
    ),
    Key::new(
        "asterisk.variables",
        Kind::List,
        "",
        "Channel variables that the session is told.",
    ),
    Key::new(
        "asterisk.when_full",
        Kind::Choice(Full::WORDS),
        "continue",
        "A call that can't be taken goes on in the dialplan (continue), or is ended (hangup).",
    ),
    // --- twilio
    Key::new(
        "twilio.auth_token",
        Kind::Text,
        "",
        "Auth token of the Twilio account: only requests that it has signed get in. Not set: signatures aren't looked at.",
    )
    .secret(),
    Key::new(
        "twilio.url",
        Kind::Text,
        "",
        "The URL of /twilio as it stands in the TwiML, which is what Twilio signs. Not set: wss:// with the Host of the request.",
    ),
    // --- vosk
    Key::new(
        "vosk.listen",
        Kind::Address,
        "",
        "Address and port for clients of a Vosk server, such as 127.0.0.1:2700. Not set: nobody listens.",
    ),
];
