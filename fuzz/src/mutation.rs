//! Changes of a message that leave it JSON, beside those of the fuzzer, which mostly don't.
//!
//! They work on the text and not on a tree, so that names that occur twice, odd numbers and broken ends stay as they are.

use std::ops::Range;

use libfuzzer_sys::fuzzer_mutate;

/// Most values of a message that are told apart.
const MAX_SPANS: usize = 1024;

const SMALL: [&str; 14] =
    ["[]", "{}", "null", "true", "0", "-1", "1e999", "\"\"", "\"a\"", "\"\\ud800\"", "\"\u{e9}\"", "[[]]", "[{}]", "7"];

const AROUND: [(&str, &str); 7] = [
    ("[", "]"),
    ("{\"value\":[", "]}"),
    ("{\"records\":[", "]}"),
    ("{\"value\":", "}"),
    ("{\"message\":", "}"),
    ("{\"batch\":{\"items\":", "}}"),
    ("{\"id\":", "}"),
];

/// Changes the first `size` bytes of `data`; tells how many there are then.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut pick = Pick(u64::from(seed) | 1 << 40);
    let (values, members) = spans(&data[..size]);
    if values.is_empty() || pick.below(2) == 0 {
        return fuzzer_mutate(data, size, max_size);
    }
    let text = &data[..size];
    let of = |span: &Range<usize>| &text[span.clone()];
    let mut at = values[pick.below(values.len())].clone();
    let value = of(&at);
    let new = match pick.below(8) {
        0 => SMALL[pick.below(SMALL.len())].as_bytes().to_vec(),
        1 => of(&values[pick.below(values.len())]).to_vec(),
        2 | 3 => {
            let (before, after) = AROUND[pick.below(AROUND.len())];
            [before.as_bytes(), value, after.as_bytes()].concat()
        }
        4 => [value, b",", value].concat(),
        5 => {
            let value = value.to_vec();
            at = 0..size;
            value
        }
        6 => {
            at = 0..size;
            let message = serde_json::to_string(&String::from_utf8_lossy(text)).unwrap_or_default();
            format!("{{\"message\":{message}}}").into_bytes()
        }
        // A member: twice, or in place of another.
        _ if !members.is_empty() => {
            at = members[pick.below(members.len())].clone();
            let other = of(&members[pick.below(members.len())]);
            if pick.below(2) == 0 { [of(&at), b",", other].concat() } else { other.to_vec() }
        }
        _ => [value, b"\n", value].concat(),
    };
    let changed = [&text[..at.start], &new, &text[at.end..]].concat();
    if changed.len() > max_size.min(data.len()) {
        return fuzzer_mutate(data, size, max_size);
    }
    data[..changed.len()].copy_from_slice(&changed);
    changed.len()
}

/// Where values are, and where members are, a name and its value; as far as the text is like JSON.
fn spans(text: &[u8]) -> (Vec<Range<usize>>, Vec<Range<usize>>) {
    let (mut values, mut members) = (Vec::new(), Vec::new());
    let (mut around, mut name, mut at) = (Vec::new(), None, 0);
    while at < text.len() && values.len() < MAX_SPANS {
        let begin = at;
        at += 1;
        let (begin, name) = match text[begin] {
            b'"' => {
                while at < text.len() && text[at] != b'"' {
                    at += if text[at] == b'\\' { 2 } else { 1 };
                }
                at = (at + 1).min(text.len());
                let rest = text[at..].trim_ascii_start();
                if rest.first() == Some(&b':') {
                    name = Some(begin);
                    at = text.len() - rest.len() + 1;
                    continue;
                }
                (begin, name.take())
            }
            b'{' | b'[' => {
                around.push((begin, name.take()));
                continue;
            }
            b'}' | b']' => match around.pop() {
                Some(opened) => opened,
                None => continue,
            },
            byte if byte.is_ascii_alphanumeric() || byte == b'-' => {
                while at < text.len() && !matches!(text[at], b',' | b']' | b'}' | b' ' | b'\n' | b'\r' | b'\t') {
                    at += 1;
                }
                (begin, name.take())
            }
            _ => continue,
        };
        values.push(begin..at);
        members.extend(name.map(|name: usize| name..at));
    }
    (values, members)
}

/// Numbers from a seed.
struct Pick(u64);

impl Pick {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 20).unwrap_or(0) % bound
    }
}
