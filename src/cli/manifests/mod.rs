//! Manifests as people keep them: files, folders and standard input; several documents to a file, Lists, JSON, the
//! output of Helm and Kustomize. Whatever does not fit is told with its file, line and field, and the rest goes on.

mod bounds;
mod node;
mod objects;
mod schema;
mod typed;

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;

pub(super) use self::node::Node;
pub(super) use self::objects::Objects;
use crate::compliance::Location;
use crate::network::validate;

/// One object as it was read.
#[derive(Clone, Debug)]
pub(super) struct Document {
    /// The file as it was named, `-` for standard input.
    pub file: Arc<str>,
    /// The object.
    pub root: Node,
}

/// Something that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// File, line, column and field, as far as they are known.
    pub at: Location,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = super::out::clean(&self.message);
        write!(f, "{}: {message}", self.at)
    }
}

impl Document {
    /// Where a field is.
    pub(super) fn locate(&self, field: &str) -> Location {
        let at = self.root.locate(field);
        let place = if field.is_empty() {
            Location::default()
        } else {
            Location::field(field)
        };
        place.in_file(&*self.file, at.line, at.column)
    }

    /// `apiVersion` and `kind`.
    pub(super) fn kind(&self) -> (&str, &str) {
        let text = |key| self.root.text(key).unwrap_or_default();
        (text("apiVersion"), text("kind"))
    }

    /// What is missing of `apiVersion` and `kind`, without which this is no object.
    fn is_no_object(&self) -> Option<Problem> {
        let node::Shape::Map(entries) = &self.root.shape else {
            return Some(Problem {
                at: self.locate(""),
                message: "this is no object: it must be a map with `apiVersion` and `kind`".to_owned(),
            });
        };
        let missing: Vec<&str> = ["apiVersion", "kind"]
            .into_iter()
            .filter(|key| self.root.text(key).is_none_or(str::is_empty))
            .collect();
        let misspelt = entries.iter().find_map(|(name, node)| {
            let guess = did_you_mean(name, missing.iter().copied());
            (!guess.is_empty()).then(|| (node.at, format!(": `{name}` is unknown{guess}")))
        });
        let (at, guess) = misspelt.unwrap_or((self.root.at, String::new()));
        let keys: Vec<String> = missing.iter().map(|key| format!("`{key}`")).collect();
        (!missing.is_empty()).then(|| Problem {
            at: Location::default().in_file(&*self.file, at.line, at.column),
            message: format!("this is no object without {}{guess}", keys.join(" and ")),
        })
    }

    /// The object as a type.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        self.read_part(&self.root)
    }

    /// A part of the object as a type. The field of a fault is told from that part on, its place exactly.
    pub(super) fn read_part<T: DeserializeOwned>(&self, part: &Node) -> Result<T, Problem> {
        typed::read(part).map_err(|fault| {
            let at = fault.at.unwrap_or(self.root.at);
            let place = if fault.field.is_empty() {
                Location::default()
            } else {
                Location::field(fault.field)
            };
            Problem {
                at: place.in_file(&*self.file, at.line, at.column),
                message: fault.message,
            }
        })
    }
}

/// Everything that was read.
#[derive(Debug, Default)]
pub(super) struct Manifests {
    /// In the order of the command line; folders sorted by name.
    pub documents: Vec<Document>,
    /// What could not be read.
    pub problems: Vec<Problem>,
}

impl Manifests {
    /// Reads files, folders with everything below them, and standard input for `-`.
    pub(super) fn read(paths: &[PathBuf]) -> Self {
        let mut manifests = Self::default();
        for path in paths {
            if path == Path::new("-") {
                let mut text = String::new();
                match std::io::stdin().lock().read_to_string(&mut text) {
                    Ok(_) => manifests.add("-", &text),
                    Err(error) => manifests.fail(path, &error),
                }
            } else if path.is_dir() {
                manifests.folder(path);
            } else {
                manifests.file(path);
            }
        }
        if manifests.documents.is_empty() && manifests.problems.is_empty() {
            manifests.problems.extend(paths.iter().map(|path| Problem {
                at: Location {
                    file: Some(path.display().to_string()),
                    ..Location::default()
                },
                message: "there is no object in it; name files, or folders with .yaml, .yml or .json files".to_owned(),
            }));
        }
        manifests
    }

    fn fail(&mut self, path: &Path, error: &std::io::Error) {
        self.problems.push(Problem {
            at: Location {
                file: Some(path.display().to_string()),
                ..Location::default()
            },
            message: error.to_string(),
        });
    }

    fn file(&mut self, path: &Path) {
        match std::fs::read_to_string(path) {
            Ok(text) => self.add(&path.display().to_string(), &text),
            Err(error) => self.fail(path, &error),
        }
    }

    /// Every .yaml, .yml and .json below a folder. Hidden names and links to folders are not followed: a volume of
    /// Kubernetes shows each file twice otherwise.
    fn folder(&mut self, folder: &Path) {
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => return self.fail(folder, &error),
        };
        let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.sort();
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
            if name.starts_with('.') {
                continue;
            }
            if path.is_dir() {
                if !path.is_symlink() {
                    self.folder(&path);
                }
            } else if ["yaml", "yml", "json"].contains(&extension.as_str()) {
                self.file(&path);
            }
        }
    }

    /// Reads one text.
    pub(super) fn add(&mut self, file: &str, text: &str) {
        let file: Arc<str> = Arc::from(file);
        for (first, part) in parts(text) {
            match serde_saphyr::from_str::<Node>(&part) {
                Ok(mut root) => {
                    root.shift(first);
                    if !matches!(root.shape, node::Shape::Null) {
                        self.flatten(&file, root);
                    }
                }
                Err(error) => {
                    let at = error.location().map_or((1, 1), |at| (at.line(), at.column()));
                    let number = |number| u32::try_from(number).unwrap_or(u32::MAX);
                    self.problems.push(Problem {
                        at: Location::default().in_file(&*file, number(at.0) + first, number(at.1)),
                        message: first_line(&error),
                    });
                }
            }
        }
    }

    /// A List is its items. What is no object is told, as kubectl does: a misspelt `kind` would be passed over otherwise.
    fn flatten(&mut self, file: &Arc<str>, root: Node) {
        let document = Document {
            file: file.clone(),
            root,
        };
        if let Some(problem) = document.is_no_object() {
            return self.problems.push(problem);
        }
        match document.root.items("items") {
            Some(items) if document.kind().1.ends_with("List") => {
                for item in items {
                    self.flatten(file, item.clone());
                }
            }
            _ => self.documents.push(document),
        }
    }
}

/// The parser's sentence without the picture under it and without the place, which is told in front.
fn first_line(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let line = text.lines().next().unwrap_or_default();
    let line = line.split(" at line ").next().unwrap_or(line);
    line.trim_start_matches("error: ").to_owned()
}

/// The nearest known word as a question behind a message, where one is near enough.
fn did_you_mean<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    match validate::did_you_mean(word, known, "").as_str() {
        "" => String::new(),
        guess => format!("; {guess}"),
    }
}

/// The documents of a text, each with the number of lines before it. A marker in the first column ends a document even
/// inside a block scalar, so splitting by lines is exact, and a document that does not parse leaves the others whole.
fn parts(text: &str) -> Vec<(u32, String)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parts = Vec::new();
    let (mut first, mut part) = (0, String::new());
    for (number, line) in (0_u32..).zip(text.lines()) {
        let rest = line.strip_prefix("---").filter(|rest| marks(rest));
        let ends = line.strip_prefix("...").is_some_and(marks);
        if rest.is_some() || ends {
            parts.push((first, std::mem::take(&mut part)));
            first = number;
        }
        match rest {
            // What stands behind the marker keeps its column.
            Some(rest) => part.extend(["   ", rest]),
            None if ends => {}
            None => part.push_str(line),
        }
        part.push('\n');
    }
    parts.push((first, part));
    parts.retain(|(_, part)| part.lines().any(has_content));
    parts
}

fn marks(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with([' ', '\t', '\r'])
}

/// Comments, blank lines and directives (`%YAML 1.2`) alone are no document.
fn has_content(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && !line.starts_with('#') && !line.starts_with('%')
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use super::*;

    fn read(text: &str) -> Manifests {
        let mut manifests = Manifests::default();
        manifests.add("a.yaml", text);
        manifests
    }

    #[test]
    fn every_value_knows_its_line() {
        let text = "# Source: chart\n---\napiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Namespace\n  metadata:\n    \
                    name: a\n--- # second\n\n---\n{\"apiVersion\": \"v1\", \"kind\": \"Pod\",\n \"spec\": {\"a\": [1, {\"b\": 2}]}}\n...\n";
        let manifests = read(text);
        assert_eq!(manifests.problems, []);
        let [namespace, pod] = manifests.documents.as_slice() else {
            panic!("{:?}", manifests.documents)
        };
        assert_eq!(
            namespace.locate("metadata.name").to_string(),
            "a.yaml:9:11 metadata.name"
        );
        assert_eq!(pod.locate("spec.a[1].b").to_string(), "a.yaml:14:26 spec.a[1].b");
        assert_eq!(pod.locate("spec.a[7].b").line, Some(14), "as far as there is something");
        assert_eq!(pod.root.json()["spec"]["a"][1]["b"], 2);
    }

    #[test]
    fn a_document_that_does_not_parse_leaves_the_others() {
        let manifests = read("apiVersion: v1\nkind: A\n---\nkind: [\n---\napiVersion: v1\nkind: B\n");
        assert_eq!(manifests.documents.len(), 2);
        let [problem] = manifests.problems.as_slice() else {
            panic!("{:?}", manifests.problems)
        };
        assert_eq!(
            (problem.at.file.as_deref(), problem.at.line),
            (Some("a.yaml"), Some(4)),
            "{problem}"
        );
    }

    #[test]
    fn a_marker_needs_a_blank_behind_it() {
        let manifests = read("apiVersion: v1\nkind: A\ntext: |\n  ---\n  a\nmore: ---x\n---x: 1\n");
        assert_eq!(manifests.problems, []);
        assert_eq!(manifests.documents[0].root.text("text"), Some("---\na\n"));
    }
}
