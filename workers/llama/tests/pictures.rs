//! The real worker with the synthetic vision model and its projector.

#![expect(clippy::unwrap_used, reason = "a test that can't go on says where")]

mod shared;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use repartee_worker_shell::protocol::{Chat, Image, LlmParams, Ready, Role, code};
use repartee_worker_shell::testing::Client;
use shared::{ask, binary, chats, greedy, hear, load_with, message, open, synthetic, user};

const MODEL: &str = "synthetic-vision.gguf";
const PROJECTOR: &str = "synthetic-mmproj.gguf";

fn started() -> (Client, Ready) {
    let (mut client, hello) = Client::start_with_models(binary(), Some(&synthetic())).unwrap();
    assert!(hello.features.iter().any(|feature| feature == "mtmd"));
    let ready = load_with(&mut client, MODEL, &[("projector", PROJECTOR)]).unwrap();
    (client, ready)
}

fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 }
        })
    })
}

fn adler(bytes: &[u8]) -> u32 {
    let (a, b) = bytes.iter().fold((1_u32, 0_u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    b << 16 | a
}

/// A PNG of one colour, its pixels stored without compression.
fn png(width: u32, height: u32, colour: [u8; 3]) -> Vec<u8> {
    let row = [vec![0], colour.repeat(width as usize)].concat();
    let pixels = row.repeat(height as usize);
    let mut packed = vec![0x78, 0x01];
    let mut blocks = pixels.chunks(65_535).peekable();
    while let Some(block) = blocks.next() {
        packed.push(u8::from(blocks.peek().is_none()));
        packed.extend((block.len() as u16).to_le_bytes());
        packed.extend((!(block.len() as u16)).to_le_bytes());
        packed.extend(block);
    }
    packed.extend(adler(&pixels).to_be_bytes());
    let head = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    for (name, data) in [(b"IHDR", &head), (b"IDAT", &packed), (b"IEND", &Vec::new())] {
        let chunk = [&name[..], data].concat();
        file.extend((data.len() as u32).to_be_bytes());
        file.extend(&chunk);
        file.extend(crc(&chunk).to_be_bytes());
    }
    file
}

fn image(bytes: &[u8]) -> Image {
    Image {
        media_type: "image/png".into(),
        data: STANDARD.encode(bytes),
    }
}

fn with(images: Vec<Image>) -> Chat {
    let mut chat = user("What can you tell me of it");
    chat.messages[0].images = images;
    chat
}

#[test]
fn pictures_are_seen_and_known_again() {
    let (mut client, ready) = started();
    println!("loaded in {} ms, {} MiB", ready.load_ms, ready.memory_bytes >> 20);
    let keyed = |key: &str| LlmParams {
        cache_key: Some(key.into()),
        ..greedy(40)
    };
    let red = ask(&mut client, &keyed("a"), &with(vec![image(&png(32, 32, [255, 0, 0]))]));
    println!("{} {:?}", red.text(), red.done());
    let blue = ask(&mut client, &keyed("b"), &with(vec![image(&png(32, 32, [0, 0, 255]))]));
    println!("{} {:?}", blue.text(), blue.done());
    let plain = ask(&mut client, &keyed("c"), &with(Vec::new()));
    println!("{}", plain.text());
    assert!(
        red.done().usage.prompt_tokens > plain.done().usage.prompt_tokens,
        "a picture takes places"
    );
    assert!(red.text().contains("red"), "{}", red.text());
    assert!(blue.text().contains("blue"), "{}", blue.text());
    // The next turn doesn't look again: the picture is in the cache.
    let mut next = with(vec![image(&png(32, 32, [255, 0, 0]))]);
    next.messages.push(message(Role::Assistant, &red.text()));
    next.messages.push(message(Role::User, "And again"));
    let again = ask(&mut client, &keyed("a"), &next);
    assert!(
        again.done().usage.cached_tokens >= red.done().usage.prompt_tokens,
        "{:?}",
        again.done().usage
    );
    // Another picture in its place isn't taken for it.
    let other = ask(&mut client, &keyed("a"), &with(vec![image(&png(32, 32, [0, 255, 0]))]));
    assert!(other.text().contains("green"), "{}", other.text());
    assert!(other.done().usage.cached_tokens < red.done().usage.prompt_tokens);
}

#[test]
fn pictures_and_plain_chats_are_answered_side_by_side() {
    let (mut client, _) = started();
    let alone = ask(&mut client, &greedy(40), &user("Hello")).text();
    let streams = [
        open(&mut client, &greedy(40), &with(vec![image(&png(16, 16, [0, 255, 0]))])),
        open(&mut client, &greedy(40), &user("Hello")),
        open(
            &mut client,
            &greedy(40),
            &with(vec![image(&png(8, 8, [255, 0, 0])), image(&png(8, 8, [255, 0, 0]))]),
        ),
    ];
    let all = hear(&mut client, &streams);
    assert_eq!(all[1].text(), alone);
    assert!(all.iter().all(|answered| answered.done.is_some()), "{all:?}");
}

#[test]
fn what_is_no_picture_is_refused_before_it_is_decoded() {
    let (mut client, _) = started();
    let whole = png(8, 8, [1, 2, 3]);
    let mut huge = whole.clone();
    huge[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
    let mut failed = |images: Vec<Image>| ask(&mut client, &greedy(5), &with(images)).failed().code.clone();
    assert_eq!(failed(vec![image(b"GIF89a")]), code::INVALID);
    assert_eq!(failed(vec![image(&whole[..40])]), code::INVALID);
    assert_eq!(failed(vec![image(&huge)]), code::TOO_LONG);
    assert_eq!(failed(vec![image(&whole); 9]), code::TOO_LONG);
    let mut gif = image(&whole);
    gif.media_type = "image/gif".into();
    assert_eq!(failed(vec![gif]), code::UNSUPPORTED);
    let mut broken = image(&whole);
    broken.data = "not base64!".into();
    assert_eq!(failed(vec![broken]), code::INVALID);
    assert!(ask(&mut client, &greedy(5), &user("Hello")).done.is_some());
}

#[test]
fn without_a_projector_nothing_is_seen() {
    let (mut client, _) = chats(&[]);
    let answered = ask(&mut client, &greedy(5), &with(vec![image(&png(8, 8, [1, 2, 3]))]));
    assert_eq!(answered.failed().code, code::UNSUPPORTED);
    assert!(answered.failed().message.contains("projector"));
}
