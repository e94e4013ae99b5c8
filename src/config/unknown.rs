//! Keys and sections that nobody reads, with what was probably meant.

use strsim::damerau_levenshtein;

use super::{
    file::Written,
    keys::{self, KEYS, SECTIONS},
    problem::Problem,
    sample,
};

/// A problem for each unknown key or section, and for each that is written as the other.
pub(super) fn find(written: &Written) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut unknown_sections: Vec<&str> = Vec::new();
    let within = |path: &str, sections: &[&str]| {
        sections.iter().any(|section| path.strip_prefix(section).is_some_and(|rest| rest.starts_with('.')))
    };
    for (path, source) in &written.sections {
        // The map is ordered, so a section comes before those within it.
        if keys::is_section(path) || within(path, &unknown_sections) {
            continue;
        }
        unknown_sections.push(path);
        let message = match keys::find(path) {
            Some(_) => "is a section here, but must be a value".to_owned(),
            None => format!("unknown section{}", probably(path, sections_like())),
        };
        problems.push(Problem { source: source.clone(), key: Some(path.clone()), message });
    }
    for (path, entry) in &written.entries {
        let is_property = path.strip_prefix(keys::KAFKA_PROPERTIES).is_some_and(|rest| rest.starts_with('.'));
        if keys::find(path).is_some() || is_property || within(path, &unknown_sections) {
            continue;
        }
        let message = if keys::is_section(path) {
            let section = if keys::NAMED.contains(&path.as_str()) { &format!("{path}.NAME") } else { path };
            format!("is a value here, but must be a section with keys of its own: [{section}]")
        } else {
            format!("unknown key{}", probably(path, keys_like(path)))
        };
        problems.push(Problem { source: entry.source.clone(), key: Some(path.clone()), message });
    }
    problems
}

fn probably(path: &str, candidates: Vec<String>) -> String {
    match nearest(path, candidates) {
        Some(candidate) => format!("; did you mean {candidate}?"),
        None if path.starts_with("kafka.") => "; librdkafka's own properties stand in [kafka.properties]".to_owned(),
        None => "; `alert-ips config --sample` lists every key".to_owned(),
    }
}

/// The candidate that `path` most likely stands for: one with the same name in another section, or one that differs by
/// a few letters.
fn nearest(path: &str, candidates: Vec<String>) -> Option<String> {
    let last = |path: &str| path.rsplit('.').next().map(str::to_owned);
    let distance = |candidate: &String| {
        if last(candidate) == last(path) && candidate.contains('.') { 1 } else { damerau_levenshtein(path, candidate) }
    };
    let allowed = (path.len() / 4).clamp(2, 4);
    candidates
        .into_iter()
        .map(|candidate| (distance(&candidate), candidate))
        .filter(|(d, _)| *d <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

fn keys_like(path: &str) -> Vec<String> {
    KEYS.iter().map(|key| key.path_for(name_in(path))).collect()
}

fn sections_like() -> Vec<String> {
    let fixed = SECTIONS.iter().map(|section| section.path).filter(|path| !path.contains('*'));
    fixed.chain(keys::NAMED).map(str::to_owned).collect()
}

/// The account or output that `path` is about, or a name to show where it is about none.
fn name_in(path: &str) -> &str {
    match path.split_once('.') {
        Some((group, rest)) if keys::NAMED.contains(&group) => rest.split('.').next().unwrap_or(rest),
        _ => sample::ACCOUNT,
    }
}
