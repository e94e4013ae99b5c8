//! The pure modules of the main package, included by path, and what holds of them whatever bytes come.
//!
//! That they build here, without the rest of the package and its dependencies, proves that they are pure.

#![forbid(unsafe_code)]

#[path = "../../src/decode/mod.rs"]
pub mod decode;
#[path = "../../src/domain/mod.rs"]
pub mod domain;
#[path = "../../src/encode/mod.rs"]
pub mod encode;

pub mod avro;
mod encoding;
pub mod mutation;
mod property;

pub use self::property::Property;

#[doc(hidden)]
pub use libfuzzer_sys;

/// The fuzz target of an input format.
#[macro_export]
macro_rules! target {
    ($format:ident) => {
        static PROPERTY: std::sync::LazyLock<$crate::Property> =
            std::sync::LazyLock::new(|| $crate::Property::of($crate::domain::format::InputFormat::$format));

        $crate::libfuzzer_sys::fuzz_target!(|payload: &[u8]| PROPERTY.check(payload));
        $crate::libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
            $crate::mutation::mutate(data, size, max_size, seed)
        });
    };
}
