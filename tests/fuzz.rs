//! The fuzz targets, compiled and run on a few inputs under stable Rust and without libFuzzer: see fuzz/README.md.

#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
#![allow(unused_attributes, reason = "each target says that it is a program without main()")]

// What the targets import is here.
extern crate self as libfuzzer_sys;

#[path = "../fuzz/fuzz_targets"]
mod targets {
    mod decision_line_always_has_its_fields;
    mod env_file_never_panics;
    mod journal_never_panics;
    mod limits_steps_and_lists_never_panic;
    mod log_lines_never_panic;
    mod queue_listing_is_read_or_refused;
    mod reply_is_always_valid;
    mod request_parsing_is_chunking_independent;
    mod request_text_is_always_clean;
    mod what_was_left_is_read_or_refused;
}

#[test]
fn no_target_is_forgotten() {
    let (this, manifest) = (include_str!("fuzz.rs"), include_str!("../fuzz/Cargo.toml"));
    for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/fuzz_targets")).expect("the folder") {
        let path = file.expect("a file").path();
        let name = path.file_stem().expect("a name").to_str().expect("UTF-8");
        assert!(this.contains(&format!("mod {name};")) && manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}

/// In libFuzzer's place: the body of a target as a test in its module. It stands below the targets, so that they import it.
#[macro_export]
macro_rules! fuzz_target {
    (|$input:ident: $type:ty| $body:block) => {
        #[test]
        fn holds() {
            for seed in 0..2000 {
                let bytes = $crate::bytes(seed);
                let input = arbitrary::Arbitrary::arbitrary_take_rest(arbitrary::Unstructured::new(&bytes));
                let Ok($input): arbitrary::Result<$type> = input else { continue };
                $body
            }
        }
    };
}

/// Up to 4 kB, in every other case of what the inputs are made of.
fn bytes(seed: u64) -> Vec<u8> {
    const ALPHABET: &[u8] = b"\n\n\n==  ,;:.%/\"'\\#$@[]{}<>aeinrt0123456789kKmMxX\r\t\0\x1b\xc3\xa9\xff";
    let mut random = fastrand::Rng::with_seed(seed);
    let most = 1 << random.u32(..13);
    let length = random.usize(..most);
    let any = seed.is_multiple_of(2);
    (0..length).map(|_| if any { random.u8(..) } else { ALPHABET[random.usize(..ALPHABET.len())] }).collect()
}
