//! Tests of the whole and of its parts together; nothing here needs an installed service.

mod budget;
