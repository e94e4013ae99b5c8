//! `alert-ips demo` as a user runs it, without a terminal.

use std::process::{Command, Output};

fn demo(args: &[&str]) -> Output {
    // Nothing of the caller's environment is needed.
    Command::new(env!("CARGO_BIN_EXE_alert-ips")).arg("demo").args(args).env_clear().output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_short_demo_shows_the_main_job_and_every_check_is_ok() {
    let output = demo(&["--seconds", "20", "--seed", "7"]);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!((output.status.code(), err.as_str()), (Some(0), ""), "{out}");
    for name in ["24 per 2s", "48 per 6s", "calls", "records", "delivery", "answers", "high first", "429", "stopped"] {
        let line = format!("ok      {name} ");
        assert!(out.lines().any(|found| found.starts_with(&line)), "no line for {name}:\n{out}");
    }
    assert!(out.ends_with("all 9 checks ok\n"), "{out}");
    assert!(!out.contains("not shown"), "{out}");
    for act in ["calm:", "a storm:", "the service throttles:", "dead letter:", "stopping:"] {
        assert!(out.contains(act), "no {act}\n{out}");
    }
    assert!(!out.contains('\u{1b}'), "escape sequences outside a terminal:\n{out}");
}

#[test]
fn too_many_alerts_stop_in_time_and_what_waits_is_told() {
    let output = demo(&["--seconds", "8", "--alerts", "400"]);
    let out = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{out}");
    assert!(out.contains("after 8 s the demo stops"), "{out}");
    assert!(out.contains("still waiting (uncommitted)"), "{out}");
    assert!(out.contains("ok      delivery      0 lost, 0 twice, 0 unexpected"), "{out}");
}

#[test]
fn a_record_of_each_form_can_be_seen() {
    let output = demo(&["--seconds", "5", "--format", "splunk-hec"]);
    let out = text(&output.stdout);
    let (_, shown) = out.split_once("One record in the form splunk-hec").unwrap_or_else(|| panic!("{out}"));
    for part in
        ["ce_specversion: 1.0\n", "content-type: application/json\n", r#""sourcetype": "ms:defender:alert:ips""#]
    {
        assert!(shown.contains(part), "{shown}");
    }
}

#[test]
fn a_wrong_option_is_a_usage_error() {
    for args in [["--seconds", "4"], ["--alerts", "0"], ["--seed", "x"], ["--format", "xml"]] {
        let output = demo(&args);
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(64), ""), "{args:?}");
    }
}
