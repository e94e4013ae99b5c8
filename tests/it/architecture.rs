//! The sources against the drawing in ARCHITECTURE.md and the rules that no type can hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use alert_ips::crash_point::Point;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A source file: its path below `src/`, and its text without comments and without its unit tests.
struct Source {
    path: PathBuf,
    code: String,
}

impl Source {
    fn module(&self) -> String {
        let first = self.path.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
        first.trim_end_matches(".rs").to_owned()
    }
}

fn sources() -> Vec<Source> {
    let src = Path::new(ROOT).join("src");
    let mut folders = vec![src.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let below = path.strip_prefix(&src).unwrap().to_owned();
                let is_test = below.components().any(|part| part.as_os_str().to_string_lossy().starts_with("tests"));
                if !is_test {
                    sources.push(Source { path: below, code: code(&fs::read_to_string(&path).unwrap()) });
                }
            }
        }
    }
    assert!(sources.len() > 30, "only {} sources were found", sources.len());
    sources
}

/// Without comments, and without what follows the first `#[cfg(test)]` module with a body.
fn code(text: &str) -> String {
    let shipped = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    shipped.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The crate's modules that a text names, by path or in a group (`use crate::{clock::Clock, domain::…}`).
fn named_modules(code: &str) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            named.extend(group_members(group));
        } else {
            named.insert(identifier(rest));
        }
    }
    named.into_iter().filter(|name| name.starts_with(|c: char| c.is_ascii_lowercase())).collect()
}

/// The first identifier of each member of a group, up to its closing brace.
fn group_members(group: &str) -> Vec<String> {
    let mut depth = 1;
    let mut members = vec![String::new()];
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => members.push(String::new()),
            c if depth == 1 => members.last_mut().unwrap().push(c),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    members.iter().map(|member| identifier(member.trim())).filter(|name| !name.is_empty()).collect()
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

/// The arrows drawn in ARCHITECTURE.md: `from -> to to to`.
fn drawn() -> BTreeMap<String, BTreeSet<String>> {
    let text = fs::read_to_string(Path::new(ROOT).join("ARCHITECTURE.md")).unwrap();
    let arrows = text.lines().filter_map(|line| line.split_once("->"));
    arrows.map(|(from, to)| (from.trim().to_owned(), to.split_whitespace().map(str::to_owned).collect())).collect()
}

#[test]
fn every_use_is_an_arrow_of_the_drawing() {
    let drawn = drawn();
    let mut wrong = Vec::new();
    for source in sources() {
        let module = source.module();
        if module == "main" || module == "lib" {
            continue;
        }
        let allowed = drawn.get(&module).unwrap_or_else(|| panic!("ARCHITECTURE.md draws no arrows for `{module}`"));
        for used in named_modules(&source.code) {
            if used != module && !allowed.contains(&used) {
                wrong.push(format!("{}: {module} -> {used}", source.path.display()));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new(), "uses that ARCHITECTURE.md does not draw");
}

#[test]
fn the_drawing_has_no_cycle() {
    let mut drawn = drawn();
    while !drawn.is_empty() {
        let names: BTreeSet<_> = drawn.keys().cloned().collect();
        let before = names.len();
        drawn.retain(|_, to| to.iter().any(|to| names.contains(to)));
        assert!(drawn.len() < before, "these are in a cycle: {:?}", drawn.keys());
    }
}

#[test]
fn the_core_is_pure() {
    let impure = [
        "tokio",
        "reqwest",
        "rdkafka",
        "axum",
        "tracing",
        "crate::clock",
        "std::time::Instant",
        "SystemTime",
        "std::fs",
        "std::env",
    ];
    let mut wrong = Vec::new();
    for source in sources() {
        if ["domain", "decode", "encode"].contains(&source.module().as_str()) {
            let named = impure.iter().filter(|name| source.code.contains(**name));
            wrong.extend(named.map(|name| format!("{} names {name}", source.path.display())));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn librdkafka_is_configured_in_one_place() {
    let configures = ["ClientConfig::new", "ClientConfig::default"];
    // The demo's own writer and reader are deliberately not the daemon's.
    let allowed = [Path::new("kafka/client.rs"), Path::new("cli/demo/broker.rs")];
    let offenders: Vec<_> = sources()
        .into_iter()
        .filter(|source| {
            !allowed.contains(&source.path.as_path()) && configures.iter().any(|call| source.code.contains(call))
        })
        .map(|source| source.path)
        .collect();
    assert_eq!(offenders, Vec::<PathBuf>::new());
}

#[test]
fn only_main_ends_the_process() {
    let ends = ["process::exit", "process::abort"];
    // A crash point is nothing in a release build.
    let allowed = [Path::new("main.rs"), Path::new("crash_point.rs")];
    let offenders: Vec<_> = sources()
        .into_iter()
        .filter(|source| {
            !allowed.contains(&source.path.as_path()) && ends.iter().any(|call| source.code.contains(call))
        })
        .map(|source| source.path)
        .collect();
    assert_eq!(offenders, Vec::<PathBuf>::new());
}

#[test]
fn unsafe_code_is_in_one_place() {
    let sources = sources();
    let found: Vec<_> =
        sources.iter().filter(|source| source.code.contains("unsafe")).map(|source| &source.path).collect();
    assert_eq!(found, [Path::new("kafka/waits.rs")]);
}

#[test]
fn every_crash_point_is_passed_somewhere() {
    let sources = sources();
    let shell = sources.iter().filter(|source| source.path != Path::new("crash_point.rs"));
    let named: BTreeSet<_> = shell
        .flat_map(|source| {
            source.code.match_indices("Point::").map(|(at, name)| identifier(&source.code[at + name.len()..]))
        })
        .collect();
    let nowhere: Vec<_> = Point::ALL.iter().filter(|point| !named.contains(&format!("{point:?}"))).collect();
    assert_eq!(nowhere, Vec::<&Point>::new());
}

/// The checks can fail: planted offences are seen.
#[test]
fn planted_offences_are_seen() {
    let planted = "use crate::{\n    clock::Clock,\n    domain::{alert::Alert, time::BootTime},\n};\nlet x = crate::kafka::sink::start();";
    let named: Vec<_> = named_modules(planted).into_iter().collect();
    assert_eq!(named, ["clock", "domain", "kafka"]);
    assert_eq!(code("// crate::kafka\ncode\n#[cfg(test)]\nmod tests {\n crate::ops\n}"), "code");
}
