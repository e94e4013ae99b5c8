//! Where in a JSON value something is.

use std::{borrow::Cow, fmt};

/// A JSON pointer (RFC 6901) that names a member or an item: not the whole value.
///
/// ```
/// # use alert_ips::domain::pointer::Pointer;
/// let pointer = Pointer::parse("/detections/0/alert~1id").unwrap();
/// assert_eq!(pointer.steps().collect::<Vec<_>>(), ["detections", "0", "alert/id"]);
/// assert!(Pointer::parse("detections").is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pointer(Box<str>);

impl Pointer {
    /// Accepts what begins with `/` and in which a `~` stands only before a 0 or a 1.
    pub fn parse(text: &str) -> Result<Self, InvalidPointer> {
        if !text.starts_with('/') {
            return Err(InvalidPointer::NoSlash);
        }
        if text.split('~').skip(1).any(|rest| !rest.starts_with(['0', '1'])) {
            return Err(InvalidPointer::LoneTilde);
        }
        Ok(Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names on the way, outermost first; an item of an array is named by its number.
    pub fn steps(&self) -> impl Iterator<Item = Cow<'_, str>> {
        steps(&self.0)
    }
}

/// The names on the way of a text that is known to be a pointer.
pub fn steps(pointer: &str) -> impl Iterator<Item = Cow<'_, str>> {
    pointer.split('/').skip(1).map(|step| {
        if step.contains('~') { Cow::Owned(step.replace("~1", "/").replace("~0", "~")) } else { Cow::Borrowed(step) }
    })
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is no JSON pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPointer {
    #[error("a JSON pointer begins with `/`, as in \"/alert/id\"")]
    NoSlash,
    #[error("in a JSON pointer a `~` is written `~0`, and a `/` within a name `~1`")]
    LoneTilde,
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("/id", &["id"])]
    #[case("/a/b", &["a", "b"])]
    #[case("/", &[""])]
    #[case("/~01", &["~1"])]
    #[case("/event.id", &["event.id"])]
    fn pointers_are_taken_apart(#[case] text: &str, #[case] expected: &[&str]) {
        assert_eq!(Pointer::parse(text).unwrap().steps().collect::<Vec<_>>(), expected);
    }

    #[rstest]
    #[case("", InvalidPointer::NoSlash)]
    #[case("id", InvalidPointer::NoSlash)]
    #[case("$.id", InvalidPointer::NoSlash)]
    #[case("/a~b", InvalidPointer::LoneTilde)]
    #[case("/a~", InvalidPointer::LoneTilde)]
    fn what_is_no_pointer_is_refused(#[case] text: &str, #[case] why: InvalidPointer) {
        assert_eq!(Pointer::parse(text), Err(why));
    }
}
