//! Secrets: where they come from, and reading them without ever showing them.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use secrecy::{ExposeSecret as _, SecretString, zeroize::Zeroize as _};

/// Longest secret that is accepted, in bytes.
const MAX_LEN: u64 = 16 * 1024;

/// Where a secret comes from. `Debug` and `Display` tell the place, never the secret.
#[derive(Clone)]
pub struct Secret(Place);

#[derive(Clone)]
enum Place {
    File(PathBuf),
    Held(SecretString),
}

impl Secret {
    /// A secret in a file, which is read again at each use, so that a rotated one is picked up.
    pub fn in_file(path: impl Into<PathBuf>) -> Self {
        Self(Place::File(path.into()))
    }

    /// A secret that was given once, by an environment variable or by a program.
    pub fn held(secret: impl Into<SecretString>) -> Result<Self, SecretError> {
        let secret = secret.into();
        examine(secret.expose_secret().as_bytes(), None)?;
        Ok(Self(Place::Held(secret)))
    }

    /// The file it is read from, if it is one.
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            Place::File(path) => Some(path),
            Place::Held(_) => None,
        }
    }

    /// The secret as it is now. Of a file, one trailing line end is left out. Blocks on the file system.
    pub fn read(&self) -> Result<SecretString, SecretError> {
        match &self.0 {
            Place::Held(secret) => Ok(secret.clone()),
            Place::File(path) => read_file(path),
        }
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::File(path) => write!(f, "file {}", path.display()),
            Place::Held(_) => f.write_str("environment"),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({self})")
    }
}

/// Why there is no usable secret. Never the secret itself.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("file {} can't be read: {source}; {}", path.display(), remedy(source))]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} is empty; put the secret into it", place(path.as_deref()))]
    Empty { path: Option<PathBuf> },
    #[error("{} holds more than 16 KiB, which is no secret", place(path.as_deref()))]
    TooLong { path: Option<PathBuf> },
    #[error(
        "{} holds a line break, another control character or bytes that are not UTF-8; it must be the secret's \
         value alone",
        place(path.as_deref())
    )]
    NotPlainText { path: Option<PathBuf> },
}

fn place(path: Option<&Path>) -> String {
    path.map_or_else(|| "the value".to_owned(), |path| format!("file {}", path.display()))
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "create it with the secret's value in it",
        io::ErrorKind::PermissionDenied => "let the daemon's user read it, or pass it as a systemd credential",
        _ => "it must be a readable file that holds the secret's value",
    }
}

fn read_file(path: &Path) -> Result<SecretString, SecretError> {
    let mut bytes = Vec::with_capacity(4096);
    let read = File::open(path).and_then(|file| file.take(MAX_LEN + 1).read_to_end(&mut bytes));
    let secret = match read {
        Ok(_) => text_of(&bytes, path),
        Err(source) => Err(SecretError::Unreadable { path: path.to_owned(), source }),
    };
    bytes.zeroize();
    secret
}

fn text_of(bytes: &[u8], path: &Path) -> Result<SecretString, SecretError> {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    examine(bytes, Some(path)).map(SecretString::from)
}

/// The bytes as a text that can be a secret.
fn examine<'a>(bytes: &'a [u8], path: Option<&Path>) -> Result<&'a str, SecretError> {
    let path = || path.map(Path::to_owned);
    if bytes.is_empty() {
        return Err(SecretError::Empty { path: path() });
    }
    if bytes.len() as u64 > MAX_LEN {
        return Err(SecretError::TooLong { path: path() });
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(char::is_control) => Ok(text),
        _ => Err(SecretError::NotPlainText { path: path() }),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn file_with(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("client-secret");
        std::fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    #[rstest]
    #[case::bare(b"s3cr3t~x")]
    #[case::line_end(b"s3cr3t~x\n")]
    #[case::windows_line_end(b"s3cr3t~x\r\n")]
    fn one_line_end_is_left_out(#[case] bytes: &[u8]) {
        let (_folder, path) = file_with(bytes);
        assert_eq!(Secret::in_file(path).read().unwrap().expose_secret(), "s3cr3t~x");
    }

    #[rstest]
    #[case::empty(b"", "is empty")]
    #[case::only_a_line_end(b"\n", "is empty")]
    #[case::two_lines(b"s3cr3t\nmore\n", "control character")]
    #[case::nul(b"s3cr3t\0", "control character")]
    #[case::not_utf8(b"s3cr3t\xff", "not UTF-8")]
    #[case::too_long(&vec![b'a'; 16 * 1024 + 1], "more than 16 KiB")]
    fn unusable_files_are_told_in_words_without_the_secret(#[case] bytes: &[u8], #[case] words: &str) {
        let (_folder, path) = file_with(bytes);
        let error = Secret::in_file(&path).read().unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        assert!(error.contains(&path.display().to_string()), "{error}");
        assert!(!error.contains("s3cr3t"), "{error}");
    }

    #[rstest]
    #[case::missing("nowhere", "create it")]
    #[case::folder("", "must be a readable file")]
    fn an_unreadable_file_says_what_to_do(#[case] name: &str, #[case] words: &str) {
        let folder = tempfile::tempdir().unwrap();
        let error = Secret::in_file(folder.path().join(name)).read().unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }

    #[test]
    fn a_rotated_file_is_picked_up() {
        let (_folder, path) = file_with(b"old");
        let secret = Secret::in_file(&path);
        assert_eq!(secret.read().unwrap().expose_secret(), "old");
        std::fs::write(&path, "new").unwrap();
        assert_eq!(secret.read().unwrap().expose_secret(), "new");
    }

    #[test]
    fn a_held_secret_is_never_shown() {
        let secret = Secret::held("s3cr3t").unwrap();
        assert_eq!(format!("{secret} {secret:?}"), "environment Secret(environment)");
        assert_eq!(secret.read().unwrap().expose_secret(), "s3cr3t");
    }

    #[rstest]
    #[case::empty("")]
    #[case::line_break("a\nb")]
    fn an_unusable_held_secret_is_refused(#[case] text: &str) {
        assert!(Secret::held(text).is_err());
    }
}
