//! `make demo`: the main job on a real control plane, from nothing to a summary.
//!
//! Everything shown is the output of real programs. Each scene says what must be seen; the exit code is 0 only if all of
//! it was.

mod attacks;
mod keys;
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

/// Returns how many scenes did not show what they must. The logs of a play that went wrong are kept.
async fn play() -> Result<usize, String> {
    let mut stage = Stage::build().await?;
    if let Err(error) = scenes(&mut stage).await {
        return Err(format!("{error}; {}", stage.keep_logs()));
    }
    let missed = stage.summary();
    if missed > 0 {
        stage::say(&stage.keep_logs());
    }
    if std::env::var_os("KEEP").is_some_and(|keep| keep == "1") {
        stage.keep().await?;
    }
    Ok(missed)
}

async fn scenes(stage: &mut Stage) -> Result<(), String> {
    scenes::install(stage).await?;
    scenes::audit(stage)?;
    scenes::workloads(stage)?;
    scenes::privileged_pod(stage)?;
    scenes::hostile_pod(stage)?;
    scenes::unknown_workload(stage)?;
    scenes::tenant_edits_our_policy(stage)?;
    scenes::moved_stage(stage)?;
    scenes::hostile_policy(stage)?;
    scenes::deleted_policy(stage)?;
    attacks::while_we_live(stage)?;
    keys::first_enable(stage).await?;
    keys::rotation(stage).await?;
    scenes::controller_killed(stage)?;
    attacks::when_we_are_dead(stage)
}
