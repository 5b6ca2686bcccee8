//! As much of SIP (RFC 3261) and SDP (RFC 4566) as a test phone needs: reading a message, and writing its own.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::Codec;

/// The payload type under which the phones speak of digits.
pub(crate) const DIGITS: u8 = 101;

/// A message as it came.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// The first line.
    pub(crate) start: String,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Message {
    pub(crate) fn parse(datagram: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(datagram).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let start = lines.next()?.to_owned();
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_lowercase(), value.trim().to_owned()))
            .collect();
        Some(Self {
            start,
            headers,
            body: body.to_owned(),
        })
    }

    /// The first header of this name, which is in small letters.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.all(name).next().unwrap_or_default()
    }

    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers
            .iter()
            .filter(move |(own, _)| own == name)
            .map(|(_, value)| value.as_str())
    }

    /// The status of a response; none for a request.
    pub(crate) fn status(&self) -> Option<u16> {
        self.start.strip_prefix("SIP/2.0 ")?.split(' ').next()?.parse().ok()
    }

    /// The method of a request, or of the request that is answered.
    pub(crate) fn method(&self) -> &str {
        if self.status().is_some() {
            self.header("cseq").split(' ').nth(1).unwrap_or_default()
        } else {
            self.start.split(' ').next().unwrap_or_default()
        }
    }

    pub(crate) fn call_id(&self) -> &str {
        self.header("call-id")
    }

    /// The address in `Contact`, without its brackets.
    pub(crate) fn contact(&self) -> Option<String> {
        let contact = self.header("contact");
        let inner = contact.split_once('<').map_or(contact, |(_, rest)| rest);
        let uri = inner.split('>').next()?.trim();
        (!uri.is_empty()).then(|| uri.to_owned())
    }

    /// A response to this request. `tag` is put behind `To` where none is there yet.
    pub(crate) fn response(&self, status: &str, tag: &str, contact: Option<&str>, body: &str) -> String {
        let mut text = format!("SIP/2.0 {status}\r\n");
        for via in self.all("via") {
            let _ = write!(text, "Via: {via}\r\n");
        }
        for route in self.all("record-route") {
            let _ = write!(text, "Record-Route: {route}\r\n");
        }
        let to = self.header("to");
        let tag = if to.contains("tag=") {
            String::new()
        } else {
            format!(";tag={tag}")
        };
        let _ = write!(
            text,
            "From: {}\r\nTo: {to}{tag}\r\nCall-ID: {}\r\nCSeq: {}\r\n",
            self.header("from"),
            self.call_id(),
            self.header("cseq"),
        );
        if let Some(contact) = contact {
            let _ = write!(text, "Contact: <{contact}>\r\n");
        }
        finish(text, body)
    }
}

/// What names a dialog, from one side.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) call_id: String,
    /// `From` of our own requests, tag included.
    pub(crate) local: String,
    /// `To` of our own requests; the tag comes with the first answer.
    pub(crate) remote: String,
    /// Where requests go within the dialog.
    pub(crate) target: String,
    pub(crate) contact: String,
}

/// A request in this dialog.
pub(crate) fn request(
    method: &str,
    names: &Names,
    sequence: u32,
    branch: &str,
    from: SocketAddr,
    body: &str,
) -> String {
    let text = format!(
        "{method} {} SIP/2.0\r\nVia: SIP/2.0/UDP {from};rport;branch=z9hG4bK{branch}\r\nMax-Forwards: 70\r\n\
         From: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {sequence} {method}\r\nContact: <{}>\r\n\
         User-Agent: repartee test phone\r\nAllow: INVITE, ACK, BYE, CANCEL, OPTIONS\r\n",
        names.target, names.local, names.remote, names.call_id, names.contact,
    );
    finish(text, body)
}

fn finish(mut text: String, body: &str) -> String {
    if !body.is_empty() {
        text.push_str("Content-Type: application/sdp\r\n");
    }
    let _ = write!(text, "Content-Length: {}\r\n\r\n{body}", body.len());
    text
}

/// What a phone offers, or answers with.
pub(crate) fn session_description(media: SocketAddr, codecs: &[Codec], version: u32, direction: &str) -> String {
    let types: Vec<String> = codecs.iter().map(|codec| codec.payload_type().to_string()).collect();
    let mut text = format!(
        "v=0\r\no=phone 1 {version} IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP {types} {DIGITS}\r\n",
        ip = media.ip(),
        port = media.port(),
        types = types.join(" "),
    );
    for codec in codecs {
        let _ = write!(text, "a=rtpmap:{} {}/8000\r\n", codec.payload_type(), codec.name());
    }
    let _ = write!(
        text,
        "a=rtpmap:{DIGITS} telephone-event/8000\r\na=fmtp:{DIGITS} 0-15\r\na=ptime:20\r\na={direction}\r\n"
    );
    text
}

/// Where the other side takes audio, and the first codec it names that we know.
pub(crate) fn read_description(body: &str) -> Option<(SocketAddr, Codec)> {
    let line = |prefix: &str| body.lines().find_map(|line| line.strip_prefix(prefix));
    let ip = line("c=IN IP4 ")?.trim().parse().ok()?;
    let mut media = line("m=audio ")?.split_whitespace();
    let port = media.next()?.parse().ok()?;
    let codec = media
        .skip(1)
        .find_map(|number| Codec::from_payload_type(number.parse().ok()?))?;
    Some((SocketAddr::new(ip, port), codec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_phone_says_of_its_media_is_read_again() {
        let media = "127.0.0.1:4000".parse().unwrap();
        let text = session_description(media, &[Codec::Alaw, Codec::Ulaw], 1, "sendrecv");
        assert_eq!(read_description(&text), Some((media, Codec::Alaw)));
    }

    #[test]
    fn a_request_is_read_again_and_answered() {
        let names = Names {
            call_id: "one".into(),
            local: "<sip:a@127.0.0.1>;tag=x".into(),
            remote: "<sip:b@127.0.0.1>".into(),
            target: "sip:b@127.0.0.1:5060".into(),
            contact: "sip:a@127.0.0.1:5071".into(),
        };
        let text = request("INVITE", &names, 7, "b1", "127.0.0.1:5071".parse().unwrap(), "v=0\r\n");
        let read = Message::parse(text.as_bytes()).unwrap();
        assert_eq!((read.method(), read.status(), read.call_id()), ("INVITE", None, "one"));
        assert_eq!(read.contact().as_deref(), Some("sip:a@127.0.0.1:5071"));
        let answer = Message::parse(read.response("180 Ringing", "t", None, "").as_bytes()).unwrap();
        assert_eq!((answer.method(), answer.status()), ("INVITE", Some(180)));
        assert_eq!(answer.header("to"), "<sip:b@127.0.0.1>;tag=t");
    }
}
