//! The wall clock of a process, set as an administrator sets a machine's; Linux has no namespace for it. What stands between
//! the process and the machine's clock is `wall_clock.c`, which is compiled by the first test that needs it.

use std::{
    ffi::OsString,
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// One clock, for as many processes as are given it.
#[derive(Clone, Debug)]
pub struct WallClock {
    /// By how many nanoseconds it is ahead.
    file: PathBuf,
}

impl WallClock {
    /// What a process logs that has noticed that its clock is not the service's. Where none does, the library was not taken, and
    /// nothing is shown.
    pub const NOTICED: &str = "the service's: answers are dated by the service's";

    /// As the machine's until it is set.
    pub fn at(file: PathBuf) -> Self {
        fs::write(&file, [0; size_of::<i64>()]).unwrap();
        Self { file }
    }

    /// So many seconds ahead of the machine's from now on, or behind.
    pub fn set_ahead(&self, seconds: i64) {
        let file = File::options().write(true).open(&self.file).unwrap();
        // Whole, whenever it is read: it is less than a page.
        file.write_all_at(&(seconds * 1_000_000_000).to_ne_bytes(), 0).unwrap();
    }

    /// What a process needs to have this clock.
    pub(super) fn environment(&self) -> [(&'static str, OsString); 2] {
        [("LD_PRELOAD", library().into()), ("WALL_CLOCK_AHEAD", self.file.clone().into())]
    }
}

fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kafka/harness/wall_clock.c");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        // Another test program may be at it.
        let (library, own) =
            (folder.join("wall_clock.so"), folder.join(format!("wall_clock.{}.so", std::process::id())));
        let mut compile = Command::new("cc");
        compile
            .args(["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread", "-o"])
            .arg(&own);
        assert!(compile.arg(source).status().expect("a C compiler is there").success(), "{source} can't be compiled");
        fs::rename(own, &library).unwrap();
        library
    })
}
