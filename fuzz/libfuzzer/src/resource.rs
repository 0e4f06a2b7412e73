#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ursa_fuzz::resource(bytes));
