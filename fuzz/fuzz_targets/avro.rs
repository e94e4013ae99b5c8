#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| alert_ips_fuzz::avro::check(bytes));
