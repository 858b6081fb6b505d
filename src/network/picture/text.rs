//! Text that fits: how wide it is at most, and how it is shortened and broken. No font is asked: whoever looks at the
//! picture has other ones, so widths are those of the widest common sans-serif faces (DejaVu Sans, Verdana).

/// The sign for what was left out.
const CUT: char = '…';

/// A face: its size in pixels and its weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Face {
    Title,
    Heading,
    Name,
    Strong,
    Body,
    Small,
}

impl Face {
    /// All of them.
    pub(super) const ALL: [Self; 6] = [
        Self::Title,
        Self::Heading,
        Self::Name,
        Self::Strong,
        Self::Body,
        Self::Small,
    ];

    /// In pixels.
    pub(super) const fn size(self) -> u32 {
        match self {
            Self::Title => 20,
            Self::Heading => 15,
            Self::Name | Self::Strong => 12,
            Self::Body => 11,
            Self::Small => 10,
        }
    }

    /// Whether it is bold, and so wider.
    pub(super) const fn bold(self) -> bool {
        matches!(self, Self::Title | Self::Heading | Self::Strong)
    }

    /// The name of its class in the drawing.
    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::Title => "title",
            Self::Heading => "heading",
            Self::Name => "name",
            Self::Strong => "strong",
            Self::Body => "body",
            Self::Small => "small",
        }
    }
}

/// Text of others as printable ASCII. What Kubernetes lets by is nothing else; what a file holds may also turn the
/// direction of writing, hide, or be as wide as a line.
pub(super) fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ' '..='~' => out.push(c),
            _ => out.extend(c.escape_unicode()),
        }
    }
    out
}

/// The width of a character at most, in hundredths of the size.
const fn width_of(c: char) -> u32 {
    match c {
        'i' | 'j' | 'l' | '\'' => 37,
        ' ' | '.' | ',' | ':' | ';' | '·' | 'I' | 'f' | 't' | 'r' | '-' | '|' | '(' | ')' | '[' | ']' | '!' => 49,
        'm' | 'w' | 'M' | 'W' | '@' | '%' | '…' => 114,
        '+' | '<' | '>' | '=' | '#' | '&' | '~' | '^' | '→' | '×' => 90,
        'A'..='Z' => 85,
        ' '..='~' => 66,
        _ => 120,
    }
}

/// The width of a text at most, in pixels.
pub(super) fn width(text: &str, face: Face) -> u32 {
    let hundredths: u32 = text.chars().map(width_of).sum::<u32>() * face.size();
    let bold = if face.bold() { hundredths / 8 } else { 0 };
    (hundredths + bold).div_ceil(100)
}

/// The text where it fits, or its beginning and its end: names that differ do so at either.
pub(super) fn shorten(text: &str, face: Face, room: u32) -> String {
    if width(text, face) <= room {
        return text.to_owned();
    }
    let chars: Vec<char> = text.chars().collect();
    let (mut head, mut tail) = (String::new(), String::new());
    let (mut from, mut to) = (0, chars.len());
    while from < to {
        // Two thirds of what is kept are the beginning.
        let front = from <= 2 * (chars.len() - to);
        let longer = if front {
            format!("{head}{}{CUT}{tail}", chars[from])
        } else {
            format!("{head}{CUT}{}{tail}", chars[to - 1])
        };
        if width(&longer, face) > room {
            break;
        }
        if front {
            head.push(chars[from]);
            from += 1;
        } else {
            to -= 1;
            tail.insert(0, chars[to]);
        }
    }
    format!("{head}{CUT}{tail}")
}

/// Lines that fit. A word that does not is broken.
pub(super) fn wrap(text: &str, face: Face, room: u32) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let longer = if line.is_empty() {
            word.to_owned()
        } else {
            format!("{line} {word}")
        };
        if width(&longer, face) <= room {
            line = longer;
            continue;
        }
        if !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        for c in word.chars() {
            line.push(c);
            if width(&line, face) > room && line.chars().count() > 1 {
                line.pop();
                lines.push(std::mem::take(&mut line));
                line.push(c);
            }
        }
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

/// `1 workload`, `2 workloads`.
pub(super) fn count(number: usize, one: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        _ if one.ends_with('s') => format!("{number} {one}es"),
        _ => format!("{number} {one}s"),
    }
}

/// Text in XML and HTML, in elements and in quoted attributes.
pub(super) fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_shortened_in_the_middle_and_only_if_it_must() {
        assert_eq!(shorten("road-train", Face::Name, 200), "road-train");
        let long = "registry-cache-of-the-vision-team-in-europe-west-production";
        let short = shorten(long, Face::Name, 150);
        let (head, tail) = short.split_once(CUT).unwrap_or_default();
        assert!(long.starts_with(head) && long.ends_with(tail) && head.len() > tail.len() && !tail.is_empty());
        assert!(width(&short, Face::Name) <= 150, "{short}");
    }

    #[test]
    fn lines_hold_every_character_and_fit() {
        let text = format!("spec.egress[0] {} and so on", "x".repeat(90));
        let lines = wrap(&text, Face::Body, 120);
        assert!(lines.iter().all(|line| width(line, Face::Body) <= 120), "{lines:?}");
        assert_eq!(lines.concat().replace(' ', ""), text.replace(' ', ""));
    }

    #[test]
    fn text_of_others_is_printable_ascii() {
        assert_eq!(clean("a\u{202e}b\nc\u{fdfd}"), "a\\u{202e}b\\u{a}c\\u{fdfd}");
        assert_eq!(clean("x<y>&\""), "x<y>&\"");
    }
}
