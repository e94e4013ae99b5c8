//! Tests of the whole and of its parts together; nothing here needs an installed service.

#![allow(clippy::unwrap_used, clippy::unchecked_time_subtraction, reason = "a failed assumption fails the test")]

mod budget;
mod demo;
