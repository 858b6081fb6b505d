//! `cloison plan`: what would be written, cut and refused; for manifests, or for what runs.

mod compare;
mod door;
mod input;
mod label_paths;
mod live;
mod loss;
mod offline;
mod pods;
mod print;
mod ranges;
mod returned;
mod settings;
mod survey;
mod templates;
mod world;

pub(super) use self::door::admission;
pub(super) use self::input::{Input, Sources};
pub(super) use self::live::{Survey, Surveyed, addresses, policy as stored_policy, stored_waivers, survey_all};
pub(super) use self::offline::{exit_code, is_against, judge, network, planned, tell, world_of};
pub(super) use self::print::{finding, state};
pub(super) use self::returned::{Returned, Trial, beyond, trials};
pub(super) use self::templates::Maker;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgGroup, Args, ValueEnum};

use super::{CliError, Connection};
use crate::api::names;

/// Flags of `plan`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes with -f: 0 nothing is against it, 1 there are findings of severity Medium or worse, 2 something \
                  could not be read, or the API server would refuse it. With BEFORE and AFTER: 1 a forbidden path opens."
)]
#[command(group = ArgGroup::new("what").required(true).multiple(true).args(["files", "namespace", "all", "sets"]))]
#[command(group = ArgGroup::new("manifests").args(["files", "sets"]).multiple(true))]
pub struct Arguments {
    /// Two sets of manifests, files or folders: show which connections and forbidden paths open and close.
    #[arg(value_names = ["BEFORE", "AFTER"], num_args = 2, conflicts_with_all = ["files", "all"])]
    sets: Vec<PathBuf>,
    /// Manifests: files, folders with everything below them, `-` for standard input. No cluster is asked.
    #[arg(short = 'f', long = "filename", value_name = "FILE|DIR|-", conflicts_with = "all")]
    files: Vec<PathBuf>,
    /// A live namespace, with or without a stage. With manifests: the namespace of objects that name none.
    #[arg(short, long)]
    namespace: Option<String>,
    /// Every live namespace that has a stage, or looks as if it should have one.
    #[arg(short = 'A', long = "all-namespaces", conflicts_with = "namespace")]
    all: bool,
    /// Print the objects that would be applied as YAML; what there is to say goes to standard error.
    #[arg(short, long, requires = "files")]
    output: Option<Output>,
    /// The AiSecurityPolicy to judge by, in place of the one in the manifests.
    #[arg(long, value_name = "FILE", requires = "manifests")]
    policy: Option<PathBuf>,
    /// Add the generated admission policies and their bindings.
    #[arg(long, requires = "files")]
    admission: bool,
    /// Take every namespace with a stage as one in mode Enforce.
    #[arg(long, requires = "files")]
    as_enforced: bool,
    /// The namespace the operator is installed in.
    #[arg(long, value_name = "NAMESPACE", default_value = names::DEFAULT_NAMESPACE)]
    operator_namespace: String,
    #[command(flatten)]
    connection: Connection,
}

/// How objects are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Yaml,
}

/// Plans.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CliError> {
    if let [before, after] = arguments.sets.as_slice() {
        compare::run(&arguments, [before, after])
    } else if arguments.files.is_empty() {
        live::run(&arguments).await
    } else {
        offline::run(&arguments)
    }
}
