use std::io::Cursor;

use super::*;

fn parse(bytes: &[u8]) -> Result<Onnx, NotOnnx> {
    Onnx::parse(Cursor::new(bytes), bytes.len() as u64)
}

fn varint(mut value: u64, into: &mut Vec<u8>) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

fn message(number: u64, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    varint(number << 3 | wire::LENGTH, &mut bytes);
    varint(content.len() as u64, &mut bytes);
    bytes.extend_from_slice(content);
    bytes
}

/// A model with an input, an output, a weight of 300 bytes and an entry of metadata.
fn model() -> Vec<u8> {
    let mut bytes = vec![field::MODEL_VERSION_OF_FORMAT as u8 * 8, 8];
    let entry = [message(1, b"model_type"), message(2, b"zipformer2")].concat();
    bytes.extend(message(field::MODEL_METADATA, &entry));
    let weight = message(5, &message(9, &[7; 300]));
    let input = message(field::GRAPH_INPUT, &[message(1, b"x"), message(2, b"a type")].concat());
    let output = message(field::GRAPH_OUTPUT, &message(1, b"log_probs"));
    bytes.extend(message(field::MODEL_GRAPH, &[weight, input, output].concat()));
    bytes
}

#[test]
fn a_model_tells_its_metadata_and_names() {
    let onnx = parse(&model()).expect("a model");
    assert_eq!(onnx.text("model_type"), "zipformer2");
    assert_eq!(
        (onnx.inputs, onnx.outputs),
        (vec!["x".to_owned()], vec!["log_probs".to_owned()])
    );
}

#[test]
fn what_is_no_model_says_so() {
    let wrong = |bytes: &[u8]| parse(bytes).expect_err("no model").to_string();
    assert_eq!(wrong(b""), "is empty");
    // Its first byte reads as a varint field; then comes a group, which this format doesn't have.
    assert!(wrong(b"GGUF\x03\0\0\0").starts_with("is no ONNX model"));
    assert!(wrong(b"version https://git-lfs.github.com/spec/v1\n").starts_with("is no ONNX model"));
    assert!(wrong(b"<!DOCTYPE html>").starts_with("is no ONNX model"));
    let whole = model();
    assert!(wrong(&whole[..whole.len() - 200]).contains("is cut off"));
    assert!(wrong(&[8, 8]).contains("holds no graph"));
}

#[test]
fn no_bytes_make_it_panic_or_run_long() {
    // The generator of Numerical Recipes: the same bytes at each run.
    let mut state = 1_u32;
    let mut random = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    for length in 0..2000 {
        let bytes: Vec<u8> = (0..length % 400).map(|_| random()).collect();
        let _ = parse(&bytes);
    }
    // A model with some bytes changed, and one cut off anywhere.
    for _ in 0..20_000 {
        let mut bytes = model();
        for _ in 0..=random() % 4 {
            let place = (usize::from(random()) << 8 | usize::from(random())) % bytes.len();
            bytes[place] = random();
        }
        let _ = parse(&bytes);
    }
    let whole = model();
    for length in 0..whole.len() {
        let _ = parse(&whole[..length]);
    }
}
