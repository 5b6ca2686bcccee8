//! Any sequence of inputs, hostile ones included: no invariant breaks, and a restored session goes on.
#![no_main]

use libfuzzer_sys::fuzz_target;
use repartee::session::simulation::run_operations;

fuzz_target!(|data: &[u8]| {
    if let Err(violation) = run_operations(data, |session| session) {
        panic!("{violation}");
    }
});
