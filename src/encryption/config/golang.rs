//! What Go's standard library makes of a text, where the API server relies on it.

use base64::Engine as _;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

/// `base64.StdEncoding`: padded, and lenient about line ends and unused bits.
const STANDARD: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// `base64.StdEncoding.DecodeString`.
pub fn base64(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut clean = Zeroizing::new(String::with_capacity(text.len()));
    clean.extend(text.chars().filter(|c| !['\r', '\n'].contains(c)));
    STANDARD.decode(clean.as_bytes()).ok().map(Zeroizing::new)
}

/// `time.ParseDuration`, as far as its sign: `None` if it fails, else whether it is above zero.
pub fn positive_duration(text: &str) -> Option<bool> {
    let (negative, mut rest) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    if rest == "0" {
        return Some(false);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanoseconds = 0_f64;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        // Rust reads `1.`, `.5` and `1` as Go does; a lone point and `1.2.3` fail in both.
        let number: f64 = number.parse().ok()?;
        let unit = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        nanoseconds += number
            * match unit {
                "ns" => 1e0,
                "us" | "\u{b5}s" | "\u{3bc}s" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                _ => return None,
            };
        rest = after;
    }
    // Longer than 292 years.
    if nanoseconds >= 9_223_372_036_854_775_807_f64 {
        return None;
    }
    Some(nanoseconds >= 1.0 && !negative)
}

/// `url.Parse`, as far as the scheme: `None` if it fails. Of the host only plain letters are taken; a socket has none.
pub fn url_scheme(text: &str) -> Option<String> {
    if text.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
        return None;
    }
    let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (scheme, rest) = scheme(text)?;
    let rest = rest.split_once('?').map_or(rest, |(rest, _)| rest);
    if !rest.starts_with('/') {
        // Opaque after a scheme, else a relative path: never one with the scheme `unix`.
        return escapes(fragment).then_some(scheme);
    }
    let path = match rest.strip_prefix("//") {
        Some(rest) if !scheme.is_empty() => {
            let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
            if !host.chars().all(plain) {
                return None;
            }
            path
        }
        _ => rest,
    };
    (escapes(path) && escapes(fragment)).then_some(scheme)
}

/// The scheme in lower case, and what follows it.
fn scheme(text: &str) -> Option<(String, &str)> {
    for (index, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if index > 0 => {}
            ':' if index > 0 => return Some((text[..index].to_ascii_lowercase(), &text[index + 1..])),
            ':' => return None,
            _ => break,
        }
    }
    Some((String::new(), text))
}

/// Whether each `%` begins an escape.
fn escapes(text: &str) -> bool {
    let hex = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
    let bytes = text.as_bytes();
    let mut percents = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%');
    percents.all(|(at, _)| hex(bytes.get(at + 1)) && hex(bytes.get(at + 2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        // The answers are of Go 1.26.
        for positive in ["3s", "+3s", "1h2m3.5s", ".5s", "1.s", "1ns", "300\u{b5}s", "1000000h"] {
            assert_eq!(positive_duration(positive), Some(true), "{positive}");
        }
        for not in ["0", "0s", "-1s", "-0", "0.1ns", "+0"] {
            assert_eq!(positive_duration(not), Some(false), "{not}");
        }
        for wrong in [
            "", "-", "3", "s", ".s", "1.2.3s", "3 s", "3S", "1d", "3000000h", "1s-1s", "1e3s",
        ] {
            assert_eq!(positive_duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn urls_are_read_as_go_reads_them() {
        let scheme = |text| url_scheme(text);
        for socket in [
            "unix:///a.sock",
            "UNIX:///a",
            "unix:a",
            "unix:/a",
            "unix://host/a%20b",
            "unix:///@abstract",
        ] {
            assert_eq!(scheme(socket).as_deref(), Some("unix"), "{socket}");
        }
        assert_eq!(scheme("http://a/b").as_deref(), Some("http"));
        assert_eq!(scheme("/a.sock").as_deref(), Some(""));
        assert_eq!(scheme("1unix:///a").as_deref(), Some(""));
        for wrong in [
            "unix:///a%2",
            "unix:///%zz",
            ":a",
            "unix:///a\n",
            "unix://ho st/a",
            "unix:///a#%",
        ] {
            assert_eq!(scheme(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn base64_is_read_as_go_reads_it() {
        let decoded = |text| base64(text).map(|bytes| bytes.to_vec());
        assert_eq!(decoded("YQ=="), Some(b"a".to_vec()));
        assert_eq!(decoded("Y\r\nQ=\n="), Some(b"a".to_vec()));
        assert_eq!(decoded("YR=="), Some(b"a".to_vec()), "bits that nobody uses");
        for wrong in ["YQ", "YQ=", "YQ===", "Y Q==", "YQ==YQ==", "_-==", "=", "YQ==x"] {
            assert_eq!(decoded(wrong), None, "{wrong}");
        }
    }
}
