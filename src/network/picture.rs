//! The picture of who may talk to whom: stages are rooms, open flows are doors, forbidden paths are holes in the wall.
//!
//! [`declared`] and [`allowed`] say all there is to see, [`View`] bundles it until a person can read it, [`layout`]
//! gives everything its place, and there is one writer for each format. Names come from manifests, so every writer
//! escapes whatever it writes.

mod allowed;
mod declared;
mod dot;
mod html;
mod layout;
mod mermaid;
mod model;
mod scene;
mod svg;
mod text;
mod view;

pub use self::allowed::allowed;
pub use self::declared::declared;
pub use self::model::{Basis, Door, Group, Hole, Node, Picture, Place, Room, Rule};
use self::view::View;

/// How a picture is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A drawing.
    Svg,
    /// For Graphviz.
    Dot,
    /// For pages that know Mermaid.
    Mermaid,
    /// A page of its own: the drawing, and every door and hole as text.
    Html,
}

/// Writes a picture. The same picture gives the same bytes.
pub fn write(picture: &Picture, format: Format) -> String {
    let view = View::of(picture);
    match format {
        Format::Svg => svg::write(&layout::scene(&view)),
        Format::Dot => dot::write(&view),
        Format::Mermaid => mermaid::write(&view),
        Format::Html => html::write(picture, &svg::write(&layout::scene(&view))),
    }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on should say where"
)]
mod tests;
