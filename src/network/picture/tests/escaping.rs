//! Names come from manifests. Whatever they are, a picture of them has the structure of a picture of harmless ones.

use std::collections::BTreeSet;

use roxmltree::{Document, Node as Element, ParsingOptions};

use crate::api::stage::{Mode, Stage};
use crate::network::picture::{Basis, Format, Group, Hole, Node, Picture, Place, Room, Rule, write};
use crate::network::ports::PortSet;
use crate::network::reach::Isolation;

const HOSTILE: [&str; 16] = [
    "<script>alert(1)</script>",
    "</text></svg><script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "' onload='alert(1)",
    "]]><!--",
    "-->",
    "&#60;b&#62;&lt;i&gt;",
    "\\\" -> b; c [label=\"",
    "\\\\\" }; digraph x { \"",
    "\"]; click n0 href \"javascript:alert(1)\"",
    "`**x**`",
    "%%{init: {'securityLevel': 'loose'}}%%",
    "a\nend\n  n0 --> n1\n",
    "\u{202e}txet desrever\u{202c}\u{0}\u{7f}",
    "#quot;#35;</style><style>*{display:none}",
    "javascript:alert(1)//\u{fdfd}😀",
];

/// A picture with one word in every place that a tenant, or a file, names.
fn picture(word: &str) -> Picture {
    let node = |room, name: &str| Node {
        room,
        group: match room {
            Room::Outside => Group::Addresses,
            _ => Group::Namespace(format!("{word}-{name}")),
        },
        name: format!("{name}{word}"),
    };
    let [source, train, infer, service, outside] = [
        node(Room::Sources, "source"),
        node(Room::Stage(Stage::Training), "train"),
        node(Room::Stage(Stage::Inference), "infer"),
        node(Room::Shared, "service"),
        node(Room::Outside, "outside"),
    ];
    let mut picture = Picture::new(Basis::Allowed, &[word.to_owned()]);
    for node in [&source, &train, &infer, &service, &outside] {
        picture.draw(node, word);
    }
    let ports = PortSet::all();
    picture.open(source, infer.clone(), &ports, None);
    picture.open(train.clone(), service, &ports, Some(word.to_owned()));
    picture.open(train.clone(), outside, &ports, None);
    picture.open(train.clone(), infer.clone(), &ports, None);
    let rule = |way: &str| Rule {
        short: format!("{word} {way}[0]"),
        full: format!("{word}/{word} {word}.yaml:1:1 spec.{way}[0]"),
    };
    picture.holes.push(Hole {
        from: (train.room, train.group.clone()),
        to: (infer.room, infer.group),
        sentence: format!("a pod with labels {{{word}: {word}}} can reach another"),
        out: rule("egress"),
        into: rule("ingress"),
    });
    let place: &mut Place = picture.place(train.room, train.group);
    place.mode = Some(Mode::Enforce);
    place.verdict = Some(Isolation::Unknown {
        reason: "CniDependent",
        message: word.to_owned(),
    });
    picture
}

/// The elements and the names of their attributes. How many lines a text breaks into, and whether it is shortened,
/// depends on how long it is.
fn structure(document: &Document<'_>) -> BTreeSet<String> {
    let path = |element: Element<'_, '_>| {
        let names: Vec<&str> = element
            .ancestors()
            .filter(Element::is_element)
            .map(|e| e.tag_name().name())
            .collect();
        let attributes: Vec<&str> = element.attributes().map(|attribute| attribute.name()).collect();
        format!("{names:?} {attributes:?}")
    };
    let elements = document.descendants().filter(Element::is_element);
    elements
        .map(path)
        .filter(|path| !path.starts_with("[\"title\", \"text\""))
        .collect()
}

fn parse(text: &str) -> Document<'_> {
    let options = ParsingOptions {
        allow_dtd: true,
        ..ParsingOptions::default()
    };
    Document::parse_with_options(text, options).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_name_is_text_and_nothing_else_in_svg_and_html() {
    for format in [Format::Svg, Format::Html] {
        let harmless = write(&picture("harmless"), format);
        let wanted = structure(&parse(&harmless));
        for word in HOSTILE {
            let drawing = write(&picture(word), format);
            let document = parse(&drawing);
            assert_eq!(structure(&document), wanted, "{word:?}");
            assert!(
                drawing.chars().all(|c| " \n…·×→".contains(c) || c.is_ascii_graphic()),
                "{word:?}"
            );
            for element in document.descendants().filter(Element::is_element) {
                assert_ne!(element.tag_name().name(), "script");
                for attribute in element.attributes() {
                    assert!(
                        !attribute.name().starts_with("on") && !attribute.name().contains("href"),
                        "{word:?}"
                    );
                }
            }
            // It is there all the same.
            let shown: String = document.descendants().filter_map(|node| node.text()).collect();
            let first: String = word.chars().take_while(char::is_ascii_graphic).collect();
            assert!(shown.contains(&first), "{word:?} is not shown");
        }
    }
}

#[test]
fn a_page_loads_and_runs_nothing() {
    let page = write(&picture("a"), Format::Html);
    assert!(page.contains(
        "Content-Security-Policy\" content=\"default-src &#39;none&#39;; style-src &#39;unsafe-inline&#39;\""
    ));
    for word in [
        "<script",
        "http-equiv=\"refresh",
        "src=",
        "url(",
        "@import",
        "<link",
        "<iframe",
    ] {
        assert!(!page.contains(word), "{word}");
    }
    let addresses: Vec<&str> = page
        .match_indices("http")
        .map(|(at, _)| &page[at..(at + 30).min(page.len())])
        .collect();
    assert!(
        addresses
            .iter()
            .all(|text| text.starts_with("http://www.w3.org/2000/svg") || text.starts_with("http-equiv")),
        "{addresses:?}"
    );
}

/// The text without what stands between quotation marks; `escape` may stand before a mark that ends nothing.
fn without_strings(text: &str, escape: Option<char>) -> String {
    let (mut out, mut inside, mut escaped) = (String::new(), false, false);
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            c if inside && Some(c) == escape => escaped = true,
            '"' => {
                inside = !inside;
                out.push(c);
            }
            c if !inside => out.push(c),
            _ => assert_ne!(c, '\n', "a string goes over the end of its line"),
        }
    }
    assert!(!inside, "a string has no end");
    out
}

#[test]
fn a_name_ends_no_string_of_graphviz() {
    let harmless = without_strings(&write(&picture("harmless"), Format::Dot), Some('\\'));
    for word in HOSTILE {
        let graph = write(&picture(word), Format::Dot);
        assert_eq!(without_strings(&graph, Some('\\')), harmless, "{word:?}");
    }
}

#[test]
fn a_name_is_no_word_of_mermaid() {
    let harmless = without_strings(&write(&picture("harmless"), Format::Mermaid), None);
    for word in HOSTILE {
        let chart = write(&picture(word), Format::Mermaid);
        assert_eq!(without_strings(&chart, None), harmless, "{word:?}");
        let mut inside = chart.split('"').skip(1).step_by(2);
        let quiet = |text: &str| {
            text.replace("<br/>", "")
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || " .,:-/#;".contains(c))
        };
        assert!(inside.all(quiet), "{word:?}: {chart}");
        assert!(!chart.contains("%%"), "{word:?}: a directive");
    }
}
