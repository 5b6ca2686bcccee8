//! Pictures in a chat: checked before the library decodes them, encoded by the model's projector, and known again by what they are.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::mtmd::{MtmdBitmap, MtmdContext, MtmdInputChunks, MtmdInputText};
use repartee_worker_shell::Failure;
use repartee_worker_shell::protocol::{Chat, Image, code};

use crate::conversation::MARKER;
use crate::slots::Cell;

/// The most pictures of one chat. Each takes hundreds of tokens.
const MOST: usize = 8;
/// The most pixels of one: as many as a photograph of 16 megapixels, 48 MiB when decoded.
const MOST_PIXELS: u64 = 1 << 24;
/// The longest side. Beyond, one side has next to nothing.
const LONGEST_SIDE: u32 = 16_384;

/// What the model sees with.
#[derive(Debug)]
pub(crate) struct Eyes(pub(crate) MtmdContext);

/// A picture in a prompt.
#[derive(Debug)]
pub(crate) struct Picture {
    /// Its first place in the prompt.
    pub(crate) start: usize,
    /// How many places it takes.
    pub(crate) length: usize,
    chunks: MtmdInputChunks,
}

impl Eyes {
    /// A picture at `start`, and what stands for it in the cache.
    ///
    /// # Errors
    /// When it's no picture that can be taken.
    pub(crate) fn look(&self, image: &Image, start: usize) -> Result<(Picture, Vec<Cell>), Failure> {
        let bytes = checked(image)?;
        let unreadable = || Failure::new(code::INVALID, "a picture that can't be decoded");
        let bitmap = MtmdBitmap::from_buffer(&self.0, &bytes, false).map_err(|_| unreadable())?;
        if bitmap.is_audio() || bitmap.nx() == 0 || bitmap.ny() == 0 {
            return Err(unreadable());
        }
        let text = MtmdInputText {
            text: MARKER.into(),
            add_special: false,
            parse_special: true,
        };
        let chunks = self
            .0
            .tokenize(text, &[&bitmap])
            .map_err(|error| Failure::new(code::INTERNAL, format!("a picture can't be prepared: {error}")))?;
        let length = usize::try_from(chunks.total_positions()).unwrap_or(0);
        if length == 0 {
            return Err(Failure::new(code::INTERNAL, "the projector made nothing of a picture"));
        }
        let cells = cells(&bytes, length);
        let picture = Picture { start, length, chunks };
        Ok((picture, cells))
    }

    /// Puts a picture into a sequence of the cache, after what is there.
    ///
    /// # Errors
    /// When the library fails.
    pub(crate) fn show(
        &mut self,
        picture: &Picture,
        context: &mut LlamaContext<'_>,
        sequence: i32,
        batch: i32,
    ) -> Result<(), Failure> {
        let place = i32::try_from(picture.start).unwrap_or(i32::MAX);
        let end = picture
            .chunks
            .eval_chunks(&mut self.0, context, place, sequence, batch, false)
            .map_err(|error| Failure::new(code::INTERNAL, format!("a picture can't be encoded: {error}")))?;
        if usize::try_from(end).ok() == Some(picture.start + picture.length) {
            Ok(())
        } else {
            Err(Failure::new(
                code::INTERNAL,
                "a picture took another number of places than was said",
            ))
        }
    }
}

/// All pictures of a chat, in the order of their markers.
///
/// # Errors
/// When there are too many, or none can be seen.
pub(crate) fn of<'a>(chat: &'a Chat, eyes: Option<&Eyes>) -> Result<Vec<&'a Image>, Failure> {
    let images: Vec<&Image> = chat.messages.iter().flat_map(|message| &message.images).collect();
    if images.is_empty() || eyes.is_some() && images.len() <= MOST {
        return Ok(images);
    }
    Err(if eyes.is_none() {
        let message = "this model was loaded without a projector, so it can't see pictures";
        Failure::new(code::UNSUPPORTED, message)
    } else {
        Failure::new(
            code::TOO_LONG,
            format!("{} pictures in a chat; {MOST} can be had", images.len()),
        )
    })
}

/// The bytes of a picture whose kind and size are as they may be.
fn checked(image: &Image) -> Result<Vec<u8>, Failure> {
    let invalid = |message: &str| Failure::new(code::INVALID, message);
    if !matches!(image.media_type.as_str(), "image/png" | "image/jpeg") {
        return Err(Failure::new(
            code::UNSUPPORTED,
            "a picture has to be image/png or image/jpeg",
        ));
    }
    let bytes = STANDARD
        .decode(&image.data)
        .map_err(|_| invalid("a picture that isn't in base64"))?;
    let (width, height) = if image.media_type == "image/png" {
        png(&bytes)
    } else {
        jpeg(&bytes)
    }
    .ok_or_else(|| invalid("a picture that isn't what its media type says"))?;
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 || pixels > MOST_PIXELS || width.max(height) > LONGEST_SIDE {
        return Err(Failure::new(
            code::TOO_LONG,
            format!("a picture of {width} × {height} pixels; {MOST_PIXELS} can be had"),
        ));
    }
    Ok(bytes)
}

/// The size that a PNG's first chunk tells.
fn png(bytes: &[u8]) -> Option<(u32, u32)> {
    let rest = bytes
        .strip_prefix(b"\x89PNG\r\n\x1a\n")?
        .get(4..)?
        .strip_prefix(b"IHDR")?;
    let width = rest.first_chunk::<4>()?;
    let height = rest.get(4..)?.first_chunk::<4>()?;
    Some((u32::from_be_bytes(*width), u32::from_be_bytes(*height)))
}

/// The size that a JPEG's frame header tells (ITU T.81, B.2.2): its segments are gone through up to the first of them.
fn jpeg(bytes: &[u8]) -> Option<(u32, u32)> {
    let mut rest = bytes.strip_prefix(b"\xff\xd8")?;
    loop {
        // A marker may be preceded by any number of fill bytes.
        while rest.len() > 2 && rest[..2] == [0xff, 0xff] {
            rest = &rest[1..];
        }
        let [0xff, marker, high, low, ..] = *rest else {
            return None;
        };
        let segment = rest.get(2..)?;
        let is_frame = matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc);
        if is_frame {
            let number = |at: usize| Some(u32::from(u16::from_be_bytes(*segment.get(at..)?.first_chunk::<2>()?)));
            return Some((number(5)?, number(3)?));
        }
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length < 2 {
            return None;
        }
        rest = segment.get(length..)?;
    }
}

/// What stands for a picture in the cache: numbers below zero, the same for the same picture.
fn cells(bytes: &[u8], length: usize) -> Vec<Cell> {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    let hash = hasher.finish();
    (0..length)
        .map(|place| {
            // All of the hash in any three places, and each place another one.
            let part = (hash >> (place % 3 * 21)) & ((1 << 21) - 1);
            #[expect(clippy::cast_possible_truncation, reason = "31 bits are left")]
            let number = (part << 10 | (place as u64 & 0x3ff)) as i32;
            -1 - number
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(media_type: &str, bytes: &[u8]) -> Image {
        Image {
            media_type: media_type.into(),
            data: STANDARD.encode(bytes),
        }
    }

    fn png_head(width: u32, height: u32) -> Vec<u8> {
        [
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".as_slice(),
            &width.to_be_bytes(),
            &height.to_be_bytes(),
        ]
        .concat()
    }

    #[test]
    fn sizes_are_read_before_anything_is_decoded() {
        assert_eq!(png(&png_head(640, 480)), Some((640, 480)));
        let jpeg_head = b"\xff\xd8\xff\xe0\0\x04ab\xff\xff\xc2\0\x11\x08\x01\xe0\x02\x80\x03";
        assert_eq!(jpeg(jpeg_head), Some((640, 480)));
        for length in 0..jpeg_head.len() - 1 {
            assert_eq!(jpeg(&jpeg_head[..length]).filter(|_| length < 19), None, "{length}");
        }
        assert_eq!(jpeg(b"\xff\xd8\xff\xe0\0\0"), None);
    }

    #[test]
    fn pictures_have_bounds() {
        let code = |image: Image| checked(&image).expect_err("it's wrong").code;
        assert!(checked(&image("image/png", &png_head(8, 8))).is_ok());
        assert_eq!(code(image("image/gif", b"GIF89a")), code::UNSUPPORTED);
        assert_eq!(code(image("image/png", b"GIF89a")), code::INVALID);
        assert_eq!(code(image("image/jpeg", &png_head(8, 8))), code::INVALID);
        assert_eq!(code(image("image/png", &png_head(1 << 16, 1 << 16))), code::TOO_LONG);
        assert_eq!(code(image("image/png", &png_head(0, 8))), code::TOO_LONG);
        let mut wrong = image("image/png", &png_head(8, 8));
        wrong.data.push('!');
        assert_eq!(code(wrong), code::INVALID);
    }

    #[test]
    fn the_same_picture_is_known_again() {
        assert_eq!(cells(b"a", 40), cells(b"a", 40));
        assert_ne!(cells(b"a", 40)[0], cells(b"b", 40)[0]);
        assert!(cells(b"a", 2000).iter().all(|cell| *cell < 0));
    }
}
