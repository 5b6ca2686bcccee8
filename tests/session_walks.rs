//! Seeded random walks over arbitrary inputs: late, stale and bogus answers, hostile texts, commands at any moment. Every
//! invariant is checked at every step; and a session that is written down and restored goes on as if nothing had happened.

use repartee::session::Session;
use repartee::session::simulation::run_operations;

/// SplitMix64, as in the session itself.
fn bytes(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend((word ^ (word >> 31)).to_le_bytes());
    }
    bytes
}

fn through_json(session: Session) -> Session {
    let written = serde_json::to_string(&session).expect("a session can be written down");
    let restored = serde_json::from_str(&written).expect("a session can be restored");
    assert!(session == restored, "a restored session is the session");
    restored
}

fn through_cbor(session: Session) -> Session {
    let mut written = Vec::new();
    ciborium::into_writer(&session, &mut written).expect("a session can be written down");
    let restored = ciborium::from_reader(written.as_slice()).expect("a session can be restored");
    assert!(session == restored, "a restored session is the session");
    restored
}

const SEEDS: u64 = 400;
const BYTES: usize = 12_000;

#[test]
fn random_walks_break_nothing() {
    let mut actions = 0;
    for seed in 0..SEEDS {
        let walk = run_operations(&bytes(seed, BYTES), |session| session);
        match walk {
            Ok(done) => actions += done.len(),
            Err(violation) => panic!("seed {seed}: {violation}"),
        }
    }
    assert!(actions > 50_000, "the walks did something: {actions} actions");
}

#[test]
fn a_restored_session_goes_on_with_the_same_actions() {
    for seed in 0..SEEDS / 2 {
        let operations = bytes(seed, BYTES / 4);
        let plain = run_operations(&operations, |session| session).expect("no invariant is broken");
        let json = run_operations(&operations, through_json).expect("no invariant is broken");
        let cbor = run_operations(&operations, through_cbor).expect("no invariant is broken");
        assert!(plain == json, "seed {seed}");
        assert!(plain == cbor, "seed {seed}");
    }
}

#[test]
fn short_inputs_are_walks_too() {
    for seed in 0..2_000 {
        let length = usize::try_from(seed % 97).expect("it is small");
        run_operations(&bytes(seed, length)[..length], |session| session).expect("no invariant is broken");
    }
    for byte in 0..=255 {
        run_operations(&[byte; 600], |session| session).expect("no invariant is broken");
    }
}
