//! Must fail, within seconds: it shows that the search finds what hides behind a few comparisons.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if data.first() == Some(&b'r') && data.get(1) == Some(&b'i') && data.get(2) == Some(&b'n') {
        assert!(data.get(3) != Some(&b'g'), "the canary is found");
    }
});
