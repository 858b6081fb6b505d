//! Placed shapes: what a drawing consists of. A part holds everything that is inside of its frame.

use super::text::{Face, shorten};

/// A rectangle, in pixels; all corners are whole numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rect {
    pub x: u32,
    pub y: u32,
    pub w: u32,
    pub h: u32,
}

impl Rect {
    pub(super) const fn right(&self) -> u32 {
        self.x + self.w
    }

    pub(super) const fn bottom(&self) -> u32 {
        self.y + self.h
    }
}

/// A line of text that starts at a point of its base line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text {
    pub face: Face,
    pub x: u32,
    pub y: u32,
    pub shown: String,
    /// The whole text, where it had to be shortened.
    pub full: Option<String>,
}

impl Text {
    /// A text in `room` pixels.
    pub(super) fn fitted(face: Face, x: u32, y: u32, text: &str, room: u32) -> Self {
        let shown = shorten(text, face, room);
        let full = (shown != text).then(|| text.to_owned());
        Self {
            face,
            x,
            y,
            shown,
            full,
        }
    }
}

/// Something small at the end of a line or on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// An arrow that points to the right and ends here.
    Right(u32, u32),
    /// An arrow that points to the left.
    Left(u32, u32),
    /// Two lines meet.
    Joint(u32, u32),
    /// A line goes through a wall.
    Door(u32, u32),
}

/// Everything of one thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    /// What it is: words for the style sheet. Never text of others.
    pub class: String,
    /// More than what is shown.
    pub title: Option<String>,
    pub frame: Option<Rect>,
    /// Points of a line with right angles.
    pub line: Vec<(u32, u32)>,
    pub marks: Vec<Mark>,
    pub texts: Vec<Text>,
    pub parts: Vec<Part>,
}

impl Part {
    pub(super) fn framed(class: &str, frame: Rect) -> Self {
        Self {
            class: class.to_owned(),
            frame: Some(frame),
            ..Self::default()
        }
    }
}

/// A drawing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scene {
    pub width: u32,
    pub height: u32,
    /// What it is, in one line.
    pub title: String,
    /// What it shows and what not.
    pub description: String,
    pub parts: Vec<Part>,
}
