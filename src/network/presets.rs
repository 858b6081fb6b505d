//! What each runtime listens on. Data: the numbers are the projects' own defaults (`docs/reference`, KubeRay, Knative
//! Serving, KServe, vLLM and Triton), and an author can override every one of them.
//!
//! Inside a workload all ports are open: NCCL, Gloo and Ray pick theirs at random, and every fixed list hung jobs.

use crate::api::network::{Protocol, SourceKind};
use crate::api::workload::Runtime;

use super::ports::PortSet;

/// The TCP ports of a runtime, by who comes to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// Users' requests, brought by gateways and by other workloads.
    pub serving: &'static [u16],
    /// Metrics.
    pub metrics: &'static [u16],
    /// What an operator, an autoscaler or a culler asks.
    pub controller: &'static [u16],
}

const NOTHING: Preset = Preset {
    serving: &[],
    metrics: &[],
    controller: &[],
};

/// The preset of a runtime.
pub const fn preset(runtime: Runtime) -> Preset {
    match runtime {
        // Nothing outside a training job connects to it.
        Runtime::Generic | Runtime::PyTorch | Runtime::Trainer | Runtime::MPI => NOTHING,
        Runtime::Ray => Preset {
            serving: &[8000],
            metrics: &[8080],
            // KubeRay's operator asks the dashboard for jobs and Serve for health.
            controller: &[8000, 8265],
        },
        Runtime::KServe => Preset {
            // The model server, the agent before it, and Knative's queue-proxy over HTTP, h2c and TLS.
            serving: &[8012, 8013, 8080, 8112, 9081],
            metrics: &[8080],
            // Knative's activator probes the queue-proxy, its autoscaler reads 9090.
            controller: &[8012, 8013, 8112, 9090],
        },
        Runtime::VLLM => Preset {
            serving: &[8000],
            metrics: &[8000],
            controller: &[],
        },
        Runtime::Triton => Preset {
            serving: &[8000, 8001],
            metrics: &[8002],
            controller: &[],
        },
        Runtime::Notebook => Preset {
            serving: &[8888],
            metrics: &[],
            // The culler asks for idle kernels; without it accelerators are never given back.
            controller: &[8888],
        },
    }
}

impl Preset {
    /// The ports for a kind of source.
    pub fn for_source(&self, kind: SourceKind) -> PortSet {
        tcp(match kind {
            SourceKind::Gateway => self.serving,
            SourceKind::Scraper => self.metrics,
            SourceKind::Controller => self.controller,
        })
    }

    /// The serving ports; `None` where the runtime has none.
    pub fn serving_ports(&self) -> Option<PortSet> {
        (!self.serving.is_empty()).then(|| tcp(self.serving))
    }
}

fn tcp(ports: &[u16]) -> PortSet {
    PortSet::single(ports.iter().map(|port| (Protocol::TCP, *port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_users_meet_are_these() {
        let shown = |runtime, kind| preset(runtime).for_source(kind).to_string();
        assert_eq!(shown(Runtime::VLLM, SourceKind::Gateway), "TCP 8000");
        assert_eq!(shown(Runtime::VLLM, SourceKind::Scraper), "TCP 8000");
        assert_eq!(shown(Runtime::Ray, SourceKind::Controller), "TCP 8000, TCP 8265");
        assert_eq!(shown(Runtime::Ray, SourceKind::Scraper), "TCP 8080");
        assert_eq!(shown(Runtime::Triton, SourceKind::Scraper), "TCP 8002");
        assert_eq!(shown(Runtime::Triton, SourceKind::Gateway), "TCP 8000-8001");
        assert_eq!(shown(Runtime::Notebook, SourceKind::Controller), "TCP 8888");
        assert_eq!(
            shown(Runtime::KServe, SourceKind::Gateway),
            "TCP 8012-8013, TCP 8080, TCP 8112, TCP 9081"
        );
        for runtime in [Runtime::Generic, Runtime::PyTorch, Runtime::Trainer, Runtime::MPI] {
            assert_eq!(preset(runtime), NOTHING, "{runtime:?}");
            assert_eq!(preset(runtime).serving_ports(), None);
        }
    }

    #[test]
    fn lists_are_sorted_and_hold_a_port_once() {
        for runtime in [
            Runtime::Generic,
            Runtime::PyTorch,
            Runtime::Trainer,
            Runtime::MPI,
            Runtime::Ray,
            Runtime::KServe,
            Runtime::VLLM,
            Runtime::Triton,
            Runtime::Notebook,
        ] {
            let Preset {
                serving,
                metrics,
                controller,
            } = preset(runtime);
            for list in [serving, metrics, controller] {
                assert!(list.is_sorted_by(|a, b| a < b), "{runtime:?} {list:?}");
            }
        }
    }
}
