//! `make demo`: the main job on a real control plane, from nothing to a summary.
//!
//! Everything shown is the output of real programs. Each scene says what must be seen; the exit code is 0 only if all of
//! it was.

mod scenes;
mod stage;

use std::process::ExitCode;

use stage::Stage;

#[tokio::main]
async fn main() -> ExitCode {
    match play().await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            stage::say(&format!("\ndemo: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Returns how many scenes did not show what they must.
async fn play() -> Result<usize, String> {
    let mut stage = Stage::build().await?;
    scenes::install(&mut stage).await?;
    scenes::workloads(&mut stage)?;
    scenes::privileged_pod(&mut stage)?;
    scenes::unknown_workload(&mut stage)?;
    scenes::tenant_edits_our_policy(&mut stage)?;
    scenes::hostile_policy(&mut stage)?;
    scenes::deleted_policy(&mut stage)?;
    scenes::encryption(&mut stage).await?;
    scenes::controller_killed(&mut stage)?;
    let missed = stage.summary();
    if std::env::var_os("KEEP").is_some_and(|keep| keep == "1") {
        stage.keep().await?;
    }
    Ok(missed)
}
