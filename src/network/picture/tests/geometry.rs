//! The drawing as a browser reads it: no two boxes overlap, every text stays where it belongs, no line runs through a
//! box. Widths are those of DejaVu Sans, measured in the font, and not those that the layout reckons with.

use std::collections::{BTreeMap, BTreeSet};

use roxmltree::{Document, Node};

use super::random::{Case, with_pods, with_workloads};
use crate::network::picture::{Format, Room, write};
use crate::network::reach::Isolation;

/// Advance widths of the characters from space to tilde, in thousandths of the size: DejaVu Sans, and its bold.
const ADVANCE: [[u32; 95]; 2] = [
    [
        318, 401, 460, 838, 637, 951, 780, 275, 391, 391, 500, 838, 318, 361, 318, 337, 637, 637, 637, 637, 637, 637,
        637, 637, 637, 637, 337, 337, 838, 838, 838, 531, 1000, 685, 687, 699, 771, 632, 576, 775, 752, 295, 295, 656,
        558, 863, 749, 788, 604, 788, 695, 635, 611, 732, 685, 989, 686, 611, 686, 391, 337, 391, 838, 500, 500, 613,
        635, 550, 635, 616, 353, 635, 634, 278, 278, 580, 278, 975, 634, 612, 635, 635, 412, 521, 393, 634, 592, 818,
        592, 592, 525, 637, 337, 637, 838,
    ],
    [
        349, 457, 521, 838, 696, 1002, 873, 307, 458, 458, 523, 838, 380, 416, 380, 366, 696, 696, 696, 696, 696, 696,
        696, 696, 696, 696, 400, 400, 838, 838, 838, 581, 1000, 774, 763, 734, 831, 684, 684, 821, 837, 373, 373, 775,
        638, 996, 837, 851, 733, 851, 771, 721, 683, 813, 774, 1104, 771, 725, 726, 458, 366, 458, 838, 500, 500, 675,
        716, 593, 716, 679, 436, 716, 712, 343, 343, 666, 343, 1042, 712, 688, 716, 716, 494, 596, 479, 712, 652, 924,
        646, 652, 583, 712, 366, 712, 838,
    ],
];

/// Left, top, right, bottom.
#[derive(Clone, Copy, Debug)]
struct Area(f64, f64, f64, f64);

impl Area {
    fn holds(&self, other: &Self) -> bool {
        self.0 <= other.0 && self.1 <= other.1 && other.2 <= self.2 && other.3 <= self.3
    }

    fn meets(&self, other: &Self) -> bool {
        self.0 < other.2 && other.0 < self.2 && self.1 < other.3 && other.1 < self.3
    }
}

fn number(node: Node<'_, '_>, name: &str) -> f64 {
    node.attribute(name).unwrap().parse().unwrap()
}

/// The faces of the style sheet: size, and whether it is bold.
fn faces(drawing: &Document<'_>) -> BTreeMap<String, (f64, bool)> {
    let style = drawing.descendants().find(|node| node.has_tag_name("style")).unwrap();
    let mut faces = BTreeMap::new();
    for line in style.text().unwrap().lines() {
        if let Some((class, rest)) = line.strip_prefix('.').and_then(|line| line.split_once("{font-size:")) {
            let size = rest.split("px").next().unwrap().parse().unwrap();
            faces.insert(class.to_owned(), (size, rest.contains("bold")));
        }
    }
    faces
}

fn text_area(text: Node<'_, '_>, faces: &BTreeMap<String, (f64, bool)>) -> Area {
    let (size, bold) = faces[text.attribute("class").unwrap()];
    let shown: String = text
        .children()
        .filter(Node::is_text)
        .filter_map(|node| node.text())
        .collect();
    let advance = |c: char| match c {
        ' '..='~' => ADVANCE[usize::from(bold)][c as usize - 32],
        '…' => 1000,
        '→' | '×' => 838,
        '·' => 380,
        other => panic!("{other:?} in {shown:?}"),
    };
    let width = f64::from(shown.chars().map(advance).sum::<u32>()) * size / 1000.0;
    let (x, y) = (number(text, "x"), number(text, "y"));
    // Ascent and descent of DejaVu Sans.
    Area(x, y - size * 0.76, x + width, y + size * 0.24)
}

fn rect_of(part: Node<'_, '_>) -> Option<Area> {
    let rect = part.children().find(|node| node.has_tag_name("rect"))?;
    let (x, y) = (number(rect, "x"), number(rect, "y"));
    Some(Area(x, y, x + number(rect, "width"), y + number(rect, "height")))
}

fn class<'a>(part: Node<'a, '_>) -> &'a str {
    part.attribute("class").unwrap_or_default()
}

fn parts<'a, 'i>(node: Node<'a, 'i>) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children().filter(|child| child.has_tag_name("g"))
}

fn texts<'a, 'i>(node: Node<'a, 'i>) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children().filter(|child| child.has_tag_name("text"))
}

/// Everything inside of a part is inside of its frame, and nothing in it overlaps.
fn check_inside(part: Node<'_, '_>, faces: &BTreeMap<String, (f64, bool)>) {
    let frame = rect_of(part).unwrap();
    let mut areas: Vec<(String, Area)> = Vec::new();
    for text in texts(part) {
        areas.push((format!("{text:?} {:?}", text.text()), text_area(text, faces)));
    }
    for inner in parts(part) {
        areas.push((class(inner).to_owned(), rect_of(inner).unwrap()));
        check_inside(inner, faces);
    }
    check_apart(&areas);
    for (what, area) in &areas {
        assert!(
            frame.holds(area),
            "{what} {area:?} is not inside of {} {frame:?}",
            class(part)
        );
    }
}

fn check_apart(areas: &[(String, Area)]) {
    for (index, (what, area)) in areas.iter().enumerate() {
        for (other, beside) in &areas[index + 1..] {
            assert!(!area.meets(beside), "{what} {area:?} overlaps {other} {beside:?}");
        }
    }
}

/// The corners of a line.
fn corners(line: Node<'_, '_>) -> Vec<(f64, f64)> {
    let path = line.children().find(|node| node.has_tag_name("path")).unwrap();
    let points = path.attribute("d").unwrap().trim_start_matches('M').split('L');
    let point = |text: &str| {
        let (x, y) = text.split_once(' ').unwrap();
        (x.parse().unwrap(), y.parse().unwrap())
    };
    points.map(point).collect()
}

/// The stretches of a line as thin areas.
fn stretches(corners: &[(f64, f64)]) -> Vec<Area> {
    let stretch = |pair: &[(f64, f64)]| {
        let ((a, b), (c, d)) = (pair[0], pair[1]);
        assert!(
            (a - c).abs() < 0.5 || (b - d).abs() < 0.5,
            "a line is not square: {pair:?}"
        );
        Area(a.min(c) - 0.4, b.min(d) - 0.4, a.max(c) + 0.4, b.max(d) + 0.4)
    };
    corners.windows(2).map(stretch).collect()
}

/// Checks one drawing; returns how many lines of each class it has.
fn check(drawing: &str) -> BTreeMap<String, usize> {
    let drawing = Document::parse(drawing).unwrap();
    let root = drawing.root_element();
    let faces = faces(&drawing);
    let canvas = Area(0.0, 0.0, number(root, "width"), number(root, "height"));
    let (mut framed, mut lines, mut counts) = (Vec::new(), Vec::new(), BTreeMap::new());
    let mut free = Vec::new();
    for part in parts(root) {
        if let Some(area) = rect_of(part) {
            framed.push((class(part).to_owned(), area));
            check_inside(part, &faces);
        }
        if part.children().any(|node| node.has_tag_name("path")) {
            lines.push((corners(part), part));
            let words: Vec<&str> = class(part).split(' ').take(2).collect();
            *counts.entry(words.join(" ")).or_default() += 1;
        }
        if rect_of(part).is_none() {
            let labels = texts(part).map(|text| (format!("{:?}", text.text()), text_area(text, &faces)));
            free.extend(labels);
        }
    }
    check_apart(&framed);
    check_apart(&free);
    for (what, area) in framed.iter().chain(&free) {
        assert!(canvas.holds(area), "{what} {area:?} is outside of the drawing");
    }
    let solid = |node: &Node<'_, '_>| {
        ["box", "chip", "card"]
            .iter()
            .any(|word| class(*node).split(' ').any(|own| own == *word))
    };
    let boxes = drawing
        .descendants()
        .filter(solid)
        .map(|node| (class(node).to_owned(), rect_of(node).unwrap()));
    let boxes: Vec<(String, Area)> = boxes.collect();
    for (label, area) in &free {
        for (what, solid) in &boxes {
            assert!(!area.meets(solid), "label {label} {area:?} lies on {what} {solid:?}");
        }
    }
    for (corners, _) in &lines {
        for stretch in stretches(corners) {
            assert!(canvas.holds(&stretch));
            for (what, solid) in &boxes {
                let inner = Area(solid.0 + 0.5, solid.1 + 0.5, solid.2 - 0.5, solid.3 - 0.5);
                assert!(
                    !stretch.meets(&inner),
                    "a line {stretch:?} runs through {what} {solid:?}"
                );
            }
            for (label, area) in &free {
                assert!(
                    !stretch.meets(area),
                    "a line {stretch:?} runs through the label {label} {area:?}"
                );
            }
        }
    }
    for (index, (one, first)) in lines.iter().enumerate() {
        for (other, second) in &lines[index + 1..] {
            // Lines of one trunk have an end in common.
            let joined = one.first() == other.first() || one.last() == other.last();
            if joined && class(*first) == class(*second) {
                continue;
            }
            for (a, b) in stretches(one)
                .iter()
                .flat_map(|a| stretches(other).into_iter().map(move |b| (*a, b)))
            {
                let along = |s: &Area| s.2 - s.0 > s.3 - s.1;
                assert!(
                    along(&a) != along(&b) || !a.meets(&b),
                    "two lines lie on each other: {a:?} {b:?}"
                );
            }
        }
    }
    counts
}

/// What a corpus must hold, so that it is worth its while.
#[derive(Debug, Default)]
struct Mix {
    drawings: usize,
    by_grain: BTreeMap<&'static str, usize>,
    holes: usize,
    shared_holes: usize,
    unknown: usize,
    lines: usize,
}

impl Mix {
    fn add(&mut self, case: &Case) {
        let drawing = write(&case.picture, Format::Svg);
        let lines = check(&drawing);
        let verdicts = case.analysis.namespaces.values();
        let holed = verdicts
            .clone()
            .any(|verdict| matches!(verdict, Isolation::PathExists(_)));
        let drawn = lines.get("line hole").copied().unwrap_or_default();
        // The legend has a sample.
        assert_eq!(holed, drawn > 1, "a hole is always drawn, and only a hole");
        // Eight have a line each; of the others those between the same rooms share one.
        let holes = &case.picture.holes;
        let shared: BTreeSet<(Room, Room)> = holes.iter().skip(8).map(|hole| (hole.from.0, hole.to.0)).collect();
        assert_eq!(
            drawn,
            holes.len().min(8) + shared.len() + 1,
            "every hole is part of a line"
        );
        self.shared_holes += shared.len();
        let document = Document::parse(&drawing).unwrap();
        let dashed = |node: &Node<'_, '_>| class(*node).contains("unknown") && !class(*node).contains("card");
        let words = |node: Node<'_, '_>| -> String { node.descendants().filter_map(|node| node.text()).collect() };
        let dashed: Vec<String> = document.descendants().filter(dashed).map(words).collect();
        for (name, verdict) in &case.analysis.namespaces {
            assert!(drawing.contains(name.as_str()), "{name} is named somewhere");
            if matches!(verdict, Isolation::Unknown { .. }) {
                self.unknown += 1;
                let said = dashed
                    .iter()
                    .any(|text| text.contains(name.as_str()) && text.contains("UNKNOWN"));
                assert!(said, "{name} is not called unknown in its room");
            }
        }
        let grain = if drawing.contains(">All of it: ") {
            "stages"
        } else if case
            .picture
            .rooms
            .values()
            .flatten()
            .any(|(_, place)| place.nodes.len() > 1)
            && !drawing.contains("Generic</text>")
            && !drawing.contains("[Deployment]</text>")
        {
            "namespaces"
        } else {
            "workloads"
        };
        *self.by_grain.entry(grain).or_default() += 1;
        self.drawings += 1;
        self.holes += usize::from(holed);
        self.lines += lines.values().sum::<usize>();
        assert!(case.world.namespaces.len() > 1);
    }

    fn judge(&self) {
        eprintln!("drawings: {self:?}");
        for grain in ["workloads", "namespaces", "stages"] {
            let seen = self.by_grain.get(grain).copied().unwrap_or_default();
            assert!(
                seen * 15 >= self.drawings,
                "hardly any at the grain of {grain}: {self:?}"
            );
        }
        let part = self.holes * 100 / self.drawings;
        assert!((30..=70).contains(&part), "{part} % have holes: {self:?}");
        assert!(self.unknown * 4 >= self.drawings && self.shared_holes > 0, "{self:?}");
    }
}

#[test]
fn drawings_of_workloads_hold_together() {
    let mut mix = Mix::default();
    for seed in 0..120 {
        mix.add(&with_workloads(seed));
    }
    mix.judge();
}

#[test]
fn drawings_of_pods_hold_together() {
    let mut mix = Mix::default();
    for seed in 1000..1060 {
        mix.add(&with_pods(seed));
    }
    mix.judge();
}
