//! `cloison graph`: the picture of who may talk to whom, and of every hole.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::snapshot::Input;
use super::{CliError, out};
use crate::network::picture::{self, Format};
use crate::network::reach::concrete::Connectivity;
use crate::network::verdict;

/// Flags of `graph`.
#[derive(Debug, Args)]
#[command(
    after_help = "With AiWorkloads, the lines are the flows that they declare and that are open; without any, the connections \
                  that the policies allow between the pods. A picture is no verdict: the exit code is 0, holes or none."
)]
pub struct Arguments {
    #[command(flatten)]
    input: Input,
    /// What to write to standard output.
    #[arg(short, long, value_enum, default_value = "svg")]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A drawing.
    Svg,
    /// For Graphviz.
    Dot,
    /// For Mermaid.
    Mermaid,
    /// One page with the drawing and every line as text; needs nothing else.
    Html,
}

/// Draws.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CliError> {
    let (seen, around) = arguments.input.survey().await?;
    let analysis = verdict::of(&around.world, &around.policies, &around.unmodelled);
    let locate = |policy: &str, field: &str| seen.place(policy, field);
    let picture = if around.world.workloads.is_empty() {
        let read = Connectivity::read(&seen.snapshot, arguments.input.blocks());
        let connections = read.map_err(|unreadable| seen.refuse(&unreadable))?.connections();
        picture::allowed(
            &around.world,
            &analysis,
            &seen.snapshot,
            &connections,
            &seen.notes,
            &locate,
        )
    } else {
        picture::declared(&around.world, &analysis, &seen.notes, &locate)
    };
    let format = match arguments.output {
        Output::Svg => Format::Svg,
        Output::Dot => Format::Dot,
        Output::Mermaid => Format::Mermaid,
        Output::Html => Format::Html,
    };
    out::print(&picture::write(&picture, format))?;
    Ok(ExitCode::SUCCESS)
}
